"""The quality of an int8 bundle in each engine: scores, and cosines to the vectors in fp32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness.odd_texts import odd_texts
from benchmarks.harness.quality import cosines, describe_cosines, ndcg, sts_spearman
from benchmarks.harness.retrieval import Retrieval
from benchmarks.harness.texts import sentences
from benchmarks.markdown import row
from embedrt import Embedder
from embedrt.kernels.choose import Use

ENGINES: tuple[Use, ...] = ("off", "require")
ODD_TEXTS = 5_000
TITLES = (
    *("engine", "STSb Spearman", "SciFact nDCG@10", "cosine to fp32: mean", "first percentile"),
    *("smallest", f"smallest of {ODD_TEXTS:,} odd texts"),
)


def engine_qualities(bundle: Path, reference: Path, task: Retrieval | None = None) -> Iterator[str]:
    """Yield the rows of a table: of the fp32 bundle `reference`, then of `bundle` in each engine.

    Raises KernelsError if the kernels do not run `bundle`.
    """
    plain, odd = sentences(), odd_texts(ODD_TEXTS, seed=0)
    with Embedder.load(reference) as embedder:
        exact, exact_odd = embedder.encode(plain), embedder.encode(odd)
        scores = [sts_spearman(exact), _ndcg(embedder, task)]
        yield _row(f"{embedder.stats().engine}, fp32", scores, [None] * 4)
    for use in ENGINES:
        with Embedder.load(bundle, kernels=use) as embedder:
            found, found_odd = embedder.encode(plain), embedder.encode(odd)
            scores = [sts_spearman(found), _ndcg(embedder, task)]
            worst_odd = cosines(found_odd, exact_odd).min()
            shares = [*describe_cosines(found, exact).values(), worst_odd]
            yield _row(embedder.stats().engine, scores, shares)


def _row(engine: str, scores: list[float | None], shares: list[float | None]) -> str:
    """Format points with two digits and cosines with five; None was not measured."""
    cells = ["" if one is None else f"{one:.2f}" for one in scores]
    cells += ["" if one is None else f"{one:.5f}" for one in shares]
    return row(engine, *cells)


def _ndcg(embedder: Embedder, task: Retrieval | None) -> float | None:
    if task is None:
        return None
    queries = embedder.encode_query(task.queries)
    return 100 * ndcg(queries, embedder.encode_document(task.documents), task.judgments)
