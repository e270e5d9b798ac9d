"""Compares the vectors of tokens with those of the original late interaction model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from embedrt.bundle.manifest import Agreement, Manifest, Precision
from embedrt.errors import EmbedrtError
from embedrt.multi_vector import MultiVectorEncoder
from embedrt.pair import TextKind
from embedrt.text.inputs import start_of
from embedrt.verify import row_differences
from embedrt_export.encoder import LONG, FloatArray
from embedrt_export.int8.quality import row_cosines
from embedrt_export.proof.agreement import require_agreement, summarize
from embedrt_export.proof.calls import PLAIN, Call
from embedrt_export.proof.comparison import (
    MIN_COSINE,
    Comparison,
    expected_of,
    neighbors_of,
    plan,
    tolerance_of,
)
from embedrt_export.proof.disagreement import disagreement, refusal
from embedrt_export.proof.explanation import describe
from embedrt_export.proof.late_oracle import LateOracle
from embedrt_export.proof.texts import text_of
from embedrt_export.proof.tokens import first_difference, prompt_of

# The error of one token's vector in int8 is not averaged with those of others, as in an embedding.
LEAST: dict[Precision, float] = {"fp32": MIN_COSINE["fp32"], "int8": 0.85}
TASKS: dict[str, TextKind] = {"encode_query": "query", "encode_document": "document"}


def rehearse_tokens(oracle: LateOracle, max_tokens: int, count: Callable[[str], int]) -> None:
    """Run all texts of `prove_tokens` with the original, which caches the results."""
    for call, texts in _plan(oracle, max_tokens, count):
        for text in texts:
            expected_of(oracle, call, text)


def prove_tokens(encoder: MultiVectorEncoder, oracle: LateOracle) -> Agreement:
    """Compare a bundle with the original; raise ProofError with the differences if too large."""
    comparisons: list[Comparison] = []
    for call, texts in _plan(oracle, encoder.max_tokens, encoder.count_tokens):
        comparisons += compare_tokens(encoder, oracle, call, texts)
    _require_same_cuts(encoder, oracle)
    agreement = summarize(comparisons, oracle.name, tolerance_of(encoder.manifest))
    require_agreement(
        agreement,
        encoder.manifest.precision,
        lambda: _explain(comparisons, encoder, oracle),
        least=LEAST,
    )
    return agreement


def compare_tokens(
    encoder: MultiVectorEncoder, oracle: LateOracle, call: Call, texts: Sequence[str]
) -> list[Comparison]:
    """Run each text with both models; the bundle also runs all texts and neighbors together.

    Texts of more than `LONG` tokens run only alone, which is how the engine runs them in any case.
    Raises ProofError if the bundle refuses the call or gives other tokens.
    """
    expected = [expected_of(oracle, call, text) for text in texts]
    neighbors = neighbors_of(encoder, texts) if call in oracle.main_calls else []
    mixed = [*texts, *neighbors]
    rows = np.random.default_rng(0).permutation(len(mixed)).tolist()
    if encoder.max_tokens > LONG:
        rows = [row for row in rows if encoder.count_tokens(mixed[row]) <= LONG]
    try:
        found = [_run(encoder, call, text) for text in texts]
        together = dict(zip(rows, _run(encoder, call, [mixed[row] for row in rows]), strict=True))
    except (EmbedrtError, ValueError, TypeError) as error:
        raise refusal(oracle.name, call, error) from error
    return [
        _compare(encoder, oracle, call, text, found[row], expected[row], together.get(row))
        for row, text in enumerate(texts)
    ]


def _run(encoder: MultiVectorEncoder, call: Call, texts: str | list[str]) -> FloatArray:
    """Run a text, or several to a list of arrays."""
    return call.of(encoder, texts)


def _compare(
    encoder: MultiVectorEncoder,
    oracle: LateOracle,
    call: Call,
    text: str,
    found: FloatArray,
    expected: FloatArray,
    together: FloatArray | None,
) -> Comparison:
    manifest = encoder.manifest
    if found.shape != expected.shape:
        reason = _token_difference(encoder, oracle, call, text)
        raise disagreement(
            oracle.name,
            f"{call} on {start_of(text)} gives vectors of shape {found.shape}, and the original "
            f"{expected.shape}{reason and f': {reason}'}",
        )
    empty = not expected.size
    return Comparison(
        call=call,
        text=text,
        found=found.reshape(-1),
        expected=expected.reshape(-1),
        difference=0.0 if empty else _difference(found, expected, manifest),
        cosine=1.0 if empty else _cosine(found, expected),
        tolerance=tolerance_of(manifest),
        same_bytes=together is None or found.tobytes() == together.tobytes(),
    )


def _difference(found: FloatArray, expected: FloatArray, manifest: Manifest) -> float:
    """Return the largest difference of a component, as `Agreement` defines it, over all tokens."""
    differences = row_differences(found, expected, normalized=manifest.normalized)
    return float(differences.max())


def _cosine(found: FloatArray, expected: FloatArray) -> float:
    """Return the cosine between all vectors of a text and their references."""
    return float(row_cosines(found.reshape(1, -1), expected.reshape(1, -1))[0])


def _plan(
    oracle: LateOracle, max_tokens: int, count: Callable[[str], int]
) -> Iterator[tuple[Call, list[str]]]:
    """Yield the calls to compare, each with its texts."""
    short = [length for length in oracle.lengths(max_tokens) if length <= LONG]
    around = [text_of(n, count) for length in short for n in (length - 1, length, length + 1)]
    for call, texts in plan(oracle, max_tokens, count):
        yield call, [*texts, *around] if call in oracle.main_calls else texts
    if max_tokens <= LONG:
        yield PLAIN, [text_of(max_tokens + 1, count)]


def _require_same_cuts(encoder: MultiVectorEncoder, oracle: LateOracle) -> None:
    """Raise ProofError if the two truncate a long query or document differently."""
    lengths = zip(reversed(oracle.main_calls), oracle.lengths(encoder.max_tokens), strict=True)
    for call, length in lengths:
        for tokens in (length - 1, length, length + 1) if length > LONG else ():
            text = text_of(tokens, encoder.count_tokens)
            if reason := _token_difference(encoder, oracle, call, text):
                raise disagreement(oracle.name, f"{call} on {start_of(text)}: {reason}")


def _token_difference(
    encoder: MultiVectorEncoder, oracle: LateOracle, call: Call, text: str
) -> str:
    prompt = prompt_of(call, encoder.manifest)
    ours = encoder.inputs(prompt + text, TASKS.get(call.method))
    return first_difference(ours, oracle.input_ids(text, call), oracle)


def _explain(
    comparisons: Sequence[Comparison], encoder: MultiVectorEncoder, oracle: LateOracle
) -> list[str]:
    """Describe the texts that differ most, and those with different bytes in a batch."""

    def what_differs(one: Comparison) -> str:
        reason = _token_difference(encoder, oracle, one.call, one.text)
        at = int(np.argmax(np.abs(one.found - one.expected)))  # NaN counts as the largest
        place = f"component {at % encoder.dimension} of vector {at // encoder.dimension}"
        return f": {reason or f'{place}, with the same token ids'}"

    return describe(comparisons, LEAST[encoder.manifest.precision], what_differs)
