"""Embeds the same texts with a bundle and with the original model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embedrt import Embedder
from embedrt.bundle.manifest import Manifest, Precision
from embedrt.errors import EmbedrtError, ProofError
from embedrt.loaded import LoadedBundle
from embedrt.text.inputs import start_of
from embedrt.verify import row_differences
from embedrt_export.encoder import LONG, FloatArray
from embedrt_export.int8.quality import row_cosines
from embedrt_export.proof.calls import OWN_PROMPT, Call, prompted_calls
from embedrt_export.proof.disagreement import disagreement, refusal
from embedrt_export.proof.reference import Reference
from embedrt_export.proof.texts import PROMPTED, cut_texts, proof_texts, text_of
from embedrt_export.proof.tokens import token_difference

# Largest difference of a component and smallest cosine. The limits for int8 only detect broken
# bundles; its quality is measured earlier, against fp32.
TOLERANCE: dict[Precision, float] = {"fp32": 2e-6, "int8": 0.15}
# Of a weight, relative to the text's largest. A weight is the logarithm of a logit that is near 0
# after sums of much larger numbers: torch's own float32 differs from its float64 by 3e-6 in an
# encoder of the size of BERT-base with random weights.
SPARSE_TOLERANCE: dict[Precision, float] = {"fp32": 2e-5, "int8": 0.5}
MIN_COSINE: dict[Precision, float] = {"fp32": 0.999999, "int8": 0.95}

NEIGHBORS = 2  # of each length


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One text, embedded by the bundle and the original with the same call."""

    call: Call
    text: str
    found: FloatArray
    """Shape: (dimension,)."""
    expected: FloatArray
    """Shape: (dimension,)."""
    difference: float
    """Largest difference of a component, as `Agreement` defines it."""
    cosine: float
    tolerance: float
    """Upper limit of `difference`."""
    same_bytes: bool
    """Whether the bundle gives the same bytes in a batch."""

    def agrees(self, least: float) -> bool:
        """Whether they agree within the tolerance, with a cosine of `least`; NaN never does."""
        return self.difference <= self.tolerance and self.cosine >= least


def tolerance_of(manifest: Manifest) -> float:
    """Return the upper limit of the differences for a bundle of texts."""
    limits = SPARSE_TOLERANCE if manifest.task == "sparse" else TOLERANCE
    return limits[manifest.precision]


def rehearse(oracle: Reference, max_tokens: int, count: Callable[[str], int]) -> None:
    """Embed all texts of `compare` with the original, which caches the results."""
    for call, texts in plan(oracle, max_tokens, count):
        for text in texts:
            expected_of(oracle, call, text)


def compare(embedder: Embedder, oracle: Reference) -> list[Comparison]:
    """Embed all texts with both models without a prompt, and a few with each other call.

    Raises ProofError if the two truncate a long text differently.
    """
    comparisons = []
    for call, texts in plan(oracle, embedder.max_tokens, embedder.count_tokens):
        neighbors = neighbors_of(embedder, texts) if call in oracle.main_calls else ()
        comparisons += compare_texts(embedder, oracle, call, texts, neighbors)
    for call in (oracle.main_calls[0], Call(method="encode_document", prompt=OWN_PROMPT)):
        for text in cut_texts(embedder.max_tokens, embedder.count_tokens):
            if reason := token_difference(call, text, embedder, oracle):
                raise disagreement(oracle.name, f"{call} on {start_of(text)}: {reason}")
    return comparisons


def plan(
    oracle: Reference, max_tokens: int, count: Callable[[str], int]
) -> Iterator[tuple[Call, list[str]]]:
    """Yield the calls to compare, each with its texts."""
    special = oracle.special_tokens()
    for call in oracle.main_calls:
        texts = [*proof_texts(special, max_tokens, count), *oracle.edge_texts()]
        yield call, _taken(oracle, call, texts)
    for call in prompted_calls(oracle.prompt_names, special):
        texts = [*PROMPTED]
        if call.prompt == OWN_PROMPT and max_tokens <= LONG:
            # A text of maximum length, so that a prompt changes where it is truncated. Only one,
            # because such texts dominate the run time.
            texts.append(text_of(max_tokens, count))
        yield call, _taken(oracle, call, texts)


def compare_texts(
    embedder: Embedder,
    oracle: Reference,
    call: Call,
    texts: Sequence[str],
    neighbors: Sequence[str] = (),
) -> list[Comparison]:
    """Embed each text with both models; the bundle also embeds all texts and neighbors together.

    Texts of more than `LONG` tokens are embedded only alone, which is how the engine runs them in
    any case. Raises ProofError if the bundle refuses the call, and UnsupportedModelError if the
    original does.
    """
    expected = np.stack([expected_of(oracle, call, text) for text in texts])
    try:
        found = np.stack([call.of(embedder, text) for text in texts])
        mixed = [*texts, *neighbors]
        order = np.random.default_rng(0).permutation(len(mixed))
        if embedder.max_tokens > LONG:
            order = np.array([row for row in order if embedder.count_tokens(mixed[row]) <= LONG])
        together = np.concatenate([found, np.empty((len(neighbors), found.shape[1]), np.float32)])
        together[order] = call.of(embedder, [mixed[index] for index in order])
    except (EmbedrtError, ValueError, TypeError) as error:
        raise refusal(oracle.name, call, error) from error
    if found.shape != expected.shape:
        raise ProofError(
            f"the bundle gives {found.shape[1]} components and the original {expected.shape[1]}"
        )
    differences = row_differences(found, expected, normalized=embedder.manifest.normalized)
    cosines = row_cosines(found, expected)
    return [
        Comparison(
            call=call,
            text=text,
            found=found[row],
            expected=expected[row],
            difference=float(differences[row]),
            cosine=float(cosines[row]),
            tolerance=tolerance_of(embedder.manifest),
            same_bytes=found[row].tobytes() == together[row].tobytes(),
        )
        for row, text in enumerate(texts)
    ]


def _taken(oracle: Reference, call: Call, texts: Sequence[str]) -> list[str]:
    """Return the texts that the original accepts: most fail on texts without tokens."""
    return [text for text in texts if oracle.takes(text, call)]


def expected_of(oracle: Reference, call: Call, text: str) -> FloatArray:
    """Return the original's result; raise UnsupportedModelError if it fails on the text."""
    expected: FloatArray
    (expected,) = oracle.embed([text], call)
    return expected


def neighbors_of(loaded: LoadedBundle, texts: Sequence[str]) -> list[str]:
    """Return other texts of the same lengths, which fill the batches."""
    counts = {int(length) for length in loaded.count_tokens(texts)}
    lengths = sorted(length for length in counts if loaded.max_tokens <= LONG or length <= LONG)
    return [
        text_of(length, loaded.count_tokens, first=first)
        for length in lengths
        for first in range(1, 1 + NEIGHBORS)
    ]
