"""The quality of an int8 bundle in each engine: scores, and cosines to the vectors in fp32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.odd_texts import odd_texts
from benchmarks.harness.quality import cosines, describe_cosines, ndcg, sts_spearman
from benchmarks.harness.texts import Retrieval, sentences
from embedrt import Embedder
from embedrt.kernels.choose import Use

ENGINES: tuple[Use, ...] = ("off", "require")
ODD_TEXTS = 5_000

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EngineQuality:
    """The quality of one engine."""

    engine: str
    spearman: float
    """Points, on the test set of the STS benchmark."""
    ndcg: float | None
    """nDCG@10 in points, on a retrieval task; None without one."""
    cosines: dict[str, float]
    """To fp32, of the sentences of that test set; none for fp32 itself."""
    worst_odd: float | None = None
    """The smallest cosine to fp32 of odd texts."""

    def __str__(self) -> str:
        """Format as a row of the table."""
        score = "" if self.ndcg is None else f"{self.ndcg:.2f}"
        shares = [f"{one:.5f}" for one in self.cosines.values()] or [""] * 3
        worst = "" if self.worst_odd is None else f"{self.worst_odd:.5f}"
        cells = [self.engine, f"{self.spearman:.2f}", score, *shares, worst]
        return f"| {' | '.join(cells)} |"


HEADER = (
    "| engine | STSb Spearman | SciFact nDCG@10 | cosine to fp32: mean | first percentile "
    "| smallest | smallest of 5,000 odd texts |\n|---|--:|--:|--:|--:|--:|--:|"
)


def engine_qualities(
    bundle: Path, reference: Path, task: Retrieval | None = None
) -> Iterator[EngineQuality]:
    """Yield the quality of the fp32 bundle `reference`, then of `bundle` in each engine.

    Raises KernelsError if the kernels do not run `bundle`.
    """
    odd = odd_texts(ODD_TEXTS, seed=0)
    with Embedder.load(reference) as embedder:
        exact, exact_odd = embedder.encode(sentences()), embedder.encode(odd)
        score = _ndcg(embedder, task)
        engine = f"{embedder.stats().engine}, fp32"
    yield EngineQuality(engine, sts_spearman(exact), score, {})
    for use in ENGINES:
        with Embedder.load(bundle, kernels=use) as embedder:
            found, found_odd = embedder.encode(sentences()), embedder.encode(odd)
            score, engine = _ndcg(embedder, task), embedder.stats().engine
        worst = float(cosines(found_odd, exact_odd).min())
        described = describe_cosines(found, exact)
        yield EngineQuality(engine, sts_spearman(found), score, described, worst)


def _ndcg(embedder: Embedder, task: Retrieval | None) -> float | None:
    if task is None:
        return None
    queries = embedder.encode_query(task.queries)
    return 100 * ndcg(queries, embedder.encode_document(task.documents), task.judgments)
