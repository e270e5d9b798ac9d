"""Compares the scores of a reranker with those of the original cross-encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from embedrt.bundle.manifest import Agreement
from embedrt.errors import EmbedrtError, ProofError
from embedrt.pair import Pair
from embedrt.reranker import Reranker
from embedrt.text.inputs import start_of
from embedrt_export.encoder import LONG, FloatArray
from embedrt_export.int8.quality import row_cosines
from embedrt_export.proof.agreement import require_agreement
from embedrt_export.proof.calls import OWN_PROMPT
from embedrt_export.proof.comparison import TOLERANCE
from embedrt_export.proof.disagreement import disagreement, refusal
from embedrt_export.proof.explanation import NAMED
from embedrt_export.proof.pair_oracle import RAW, PairCall, PairOracle
from embedrt_export.proof.pairs import PROMPTED, cut_pairs, proof_pairs
from embedrt_export.proof.tokens import first_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The scores of pairs by one call, from the bundle and from the original."""

    call: PairCall
    pairs: list[Pair]
    found: FloatArray
    """Each pair scored alone. Shape: (n, labels)."""
    together: FloatArray
    """All pairs scored in one call. Shape: (n, labels)."""
    expected: FloatArray
    """Shape: (n, labels)."""

    scale: float = 1.0
    """The largest score of the original among all pairs: raw, or activated as in this call."""

    @property
    def differences(self) -> FloatArray:
        """The largest difference of each pair, relative to the scale. Shape: (n,)."""
        differences: FloatArray = np.abs(self.found - self.expected).max(axis=1) / self.scale
        return differences

    @property
    def cosine(self) -> float:
        """The cosine between all scores."""
        return float(row_cosines(self.found.reshape(1, -1), self.expected.reshape(1, -1))[0])


def rehearse_scores(oracle: PairOracle, max_tokens: int, count: Callable[[Pair], int]) -> None:
    """Score all pairs of `compare_scores` with the original, which caches the results."""
    for call, pairs in _plan(oracle, max_tokens, count):
        oracle.score(pairs, call)


def prove_scores(reranker: Reranker, oracle: PairOracle) -> Agreement:
    """Compare a bundle with the original; raise ProofError with the differences if too large."""
    precision = reranker.manifest.precision
    scored = compare_scores(reranker, oracle)
    agreement = Agreement(
        reference=oracle.name,
        texts=sum(len(one.pairs) for one in scored),
        max_difference=float(np.max([one.differences.max() for one in scored])),
        tolerance=TOLERANCE[precision],
        min_cosine=min(one.cosine for one in scored),
        same_bytes=all(one.found.tobytes() == one.together.tobytes() for one in scored),
    )
    require_agreement(agreement, precision, lambda: _explain(scored, reranker, oracle))
    return agreement


def compare_scores(reranker: Reranker, oracle: PairOracle) -> list[Scored]:
    """Score all pairs with both models, raw, and some with the activation and with prompts.

    Raises ProofError if the two truncate a long pair differently.
    """
    count = reranker.count_pair_tokens
    plan = list(_plan(oracle, reranker.max_tokens, count))
    scored = [_score(reranker, oracle, call, pairs) for call, pairs in plan]
    for pair in cut_pairs(reranker.max_tokens, count) if reranker.max_tokens > LONG else ():
        if reason := _token_difference(pair, reranker, oracle):
            raise disagreement(oracle.name, f"{start_of(pair)}: {reason}")
    return _scaled(scored, oracle)


def _scaled(scored: Sequence[Scored], oracle: PairOracle) -> list[Scored]:
    """Return the comparisons with the scale of all raw scores, or of all activated scores."""
    raw = np.concatenate([one.expected for one in scored if one.call.raw])
    scales = {True: raw, False: oracle.activate(raw)}
    largest = {kind: float(np.abs(scores).max()) for kind, scores in scales.items()}
    return [replace(one, scale=largest[one.call.raw] or 1.0) for one in scored]


def _plan(
    oracle: PairOracle, max_tokens: int, count: Callable[[Pair], int]
) -> Iterator[tuple[PairCall, list[Pair]]]:
    """Yield the calls to compare, each with its pairs."""
    yield RAW, proof_pairs(oracle.special_tokens(), max_tokens, count)
    calls = [PairCall(raw=False, prompt=""), PairCall(), PairCall(prompt=OWN_PROMPT)]
    calls += [PairCall(prompt_name=name) for name in oracle.prompt_names]
    for call in calls:
        yield call, list(PROMPTED)


def _score(reranker: Reranker, oracle: PairOracle, call: PairCall, pairs: Sequence[Pair]) -> Scored:
    expected = oracle.score(pairs, call)
    activation = "Identity" if call.raw else None

    def score(some: Sequence[Pair]) -> FloatArray:
        scores: FloatArray = reranker.predict(some, activation_fn=activation, **call.options)
        return scores.reshape(len(some), -1)

    try:
        found = np.concatenate([score([pair]) for pair in pairs])
        order = np.random.default_rng(0).permutation(len(pairs))
        together = np.empty_like(found)
        together[order] = score([pairs[index] for index in order])
    except (EmbedrtError, ValueError, TypeError) as error:
        raise refusal(oracle.name, call, error) from error
    if found.shape != expected.shape:
        raise ProofError(
            f"the bundle gives {found.shape[1]} scores and the original {expected.shape[1]}"
        )
    return Scored(call=call, pairs=list(pairs), found=found, together=together, expected=expected)


def _explain(scored: Sequence[Scored], reranker: Reranker, oracle: PairOracle) -> list[str]:
    """Describe the pairs that differ most, and those with different bytes in a batch."""
    tolerance = TOLERANCE[reranker.manifest.precision]
    apart = [
        (float(difference), one, row)
        for one in scored
        for row, difference in enumerate(one.differences)
        if not difference <= tolerance
    ]
    apart.sort(key=lambda each: -np.nan_to_num(each[0], nan=np.inf))
    lines = []
    for difference, one, row in apart[:NAMED]:
        pair = one.pairs[row]
        why = _token_difference(pair, reranker, oracle) if one.call == RAW else ""
        why = why or f"{one.found[row]} in the bundle and {one.expected[row]} in the original"
        lines.append(f"{one.call} on {start_of(pair)} differs by {difference:.1e}: {why}")
    unsteady = [
        f"{one.call} on {start_of(pair)} gives different bytes in a batch"
        for one in scored
        for pair, a, b in zip(one.pairs, one.found, one.together, strict=True)
        if a.tobytes() != b.tobytes()
    ]
    return lines + unsteady[:NAMED]


def _token_difference(pair: Pair, reranker: Reranker, oracle: PairOracle) -> str:
    """Describe the first token that differs; an empty string if there is none."""
    (ours,) = reranker.tokenize_pairs([pair])
    return first_difference(np.atleast_2d(ours)[0], oracle.input_ids(pair), oracle)
