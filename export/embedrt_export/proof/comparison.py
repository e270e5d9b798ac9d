"""Embeds the same texts with a bundle and with the original model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embedrt import Embedder
from embedrt.bundle.manifest import REMEDY, Precision
from embedrt.errors import EmbedrtError, ProofError, UnsupportedModelError
from embedrt.text.inputs import start_of
from embedrt.verify import row_differences
from embedrt_export.encoder import FloatArray
from embedrt_export.int8.quality import row_cosines
from embedrt_export.proof.calls import OWN_PROMPT, PLAIN, Call, prompted_calls
from embedrt_export.proof.oracle import Oracle
from embedrt_export.proof.texts import PROMPTED, proof_texts, text_of

# Largest difference of a component and smallest cosine. The limits for int8 only detect broken
# bundles; its quality is measured earlier, against fp32.
TOLERANCE: dict[Precision, float] = {"fp32": 2e-6, "int8": 0.15}
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
    same_bytes: bool
    """Whether the bundle gives the same bytes in a batch."""

    def agrees(self, precision: Precision) -> bool:
        """Whether the vectors agree within the tolerance; NaN never does."""
        return self.difference <= TOLERANCE[precision] and self.cosine >= MIN_COSINE[precision]


def compare(embedder: Embedder, oracle: Oracle) -> list[Comparison]:
    """Embed all texts with both models without a prompt, and a few with each other call."""
    special = oracle.special_tokens()
    texts = _of_tokens(oracle, proof_texts(special, embedder.max_tokens, embedder.count_tokens))
    comparisons = compare_texts(embedder, oracle, PLAIN, texts, _neighbors(embedder, texts))
    # A text of maximum length, so that a prompt changes where it is truncated. Only one, because
    # such texts dominate the run time.
    full = text_of(embedder.max_tokens, embedder.count_tokens)
    for call in prompted_calls(oracle.prompt_names, special):
        few = [*PROMPTED, full] if call.prompt == OWN_PROMPT else PROMPTED
        comparisons += compare_texts(embedder, oracle, call, _of_tokens(oracle, few))
    return comparisons


def compare_texts(
    embedder: Embedder,
    oracle: Oracle,
    call: Call,
    texts: Sequence[str],
    neighbors: Sequence[str] = (),
) -> list[Comparison]:
    """Embed each text with both models; the bundle also embeds all texts and neighbors together.

    Raises ProofError if the bundle refuses the call, and UnsupportedModelError if the original
    does.
    """
    expected = np.stack([_expected(oracle, call, text) for text in texts])
    try:
        found = np.stack([call.of(embedder, text) for text in texts])
        mixed = [*texts, *neighbors]
        order = np.random.default_rng(0).permutation(len(mixed))
        together = np.empty((len(mixed), found.shape[1]), np.float32)
        together[order] = call.of(embedder, [mixed[index] for index in order])
    except (EmbedrtError, ValueError, TypeError) as error:
        raise ProofError(
            f"the bundle does not agree with {oracle.name}: it refuses {call}: "
            f"{str(error).removesuffix(f'; {REMEDY}')}. Nothing was written"
        ) from error
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
            same_bytes=found[row].tobytes() == together[row].tobytes(),
        )
        for row, text in enumerate(texts)
    ]


def _of_tokens(oracle: Oracle, texts: Sequence[str]) -> list[str]:
    """Return the texts with at least one token; the original fails on the others."""
    return [text for text in texts if oracle.token_ids(text).size]


def _expected(oracle: Oracle, call: Call, text: str) -> FloatArray:
    expected: FloatArray
    try:
        (expected,) = oracle.embed([text], call)
    except Exception as error:  # malformed files raise any kind
        raise UnsupportedModelError(
            f"{oracle.name} fails at {call} on {start_of(text)}: {error}"
        ) from error
    return expected


def _neighbors(embedder: Embedder, texts: Sequence[str]) -> list[str]:
    """Return other texts of the same lengths, which fill the batches."""
    lengths = sorted({int(length) for length in embedder.count_tokens(texts)})
    return [
        text_of(length, embedder.count_tokens, first=first)
        for length in lengths
        for first in range(1, 1 + NEIGHBORS)
    ]
