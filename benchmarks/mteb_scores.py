"""Runs MTEB's STSBenchmark and SciFact on bundles, with local files instead of downloads.

python -m benchmarks.mteb_scores DATA BUNDLE...: DATA has `stsb/stsb-en-test.csv` and
`scifact_beir/{corpus.jsonl,queries.jsonl,qrels/test.tsv}`, as their authors publish them. Requires
embedrt[mteb].
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.retrieval import read_entries, read_judgments
from benchmarks.harness.texts import read_pairs
from benchmarks.markdown import head, row

PUBLISHED = {"STSBenchmark": 0.82032, "SciFact": 0.64508}
"""all-MiniLM-L6-v2's main scores in the leaderboard's results, at 8b3219a9."""


def sts_benchmark(data: Path) -> Any:
    """Return MTEB's STSBenchmark with the local test set."""
    import mteb  # noqa: PLC0415  # in an environment of its own
    from datasets import Dataset, DatasetDict  # noqa: PLC0415

    pairs = read_pairs(data / "stsb" / "stsb-en-test.csv")
    names = ("sentence1", "sentence2", "score")
    rows = Dataset.from_list([dict(zip(names, pair, strict=True)) for pair in pairs])
    task = mteb.get_task("STSBenchmark")
    task.dataset, task.data_loaded = DatasetDict({"test": rows}), True
    return task


def scifact(folder: Path) -> Any:
    """Return MTEB's SciFact with the local test set."""
    qrels = read_judgments(folder)
    queries = [each for each in read_entries(folder, "queries") if each["_id"] in qrels]
    return scifact_of(read_entries(folder, "corpus"), queries, qrels)


def scifact_of(
    corpus: Sequence[dict[str, str]],
    queries: Sequence[dict[str, str]],
    qrels: dict[str, dict[str, int]],
) -> Any:
    """Return MTEB's SciFact with these documents, queries and judgments."""
    import mteb  # noqa: PLC0415  # in an environment of its own
    from datasets import Dataset  # noqa: PLC0415

    def rows(entries: Sequence[dict[str, str]], *columns: str) -> Any:
        return Dataset.from_list(
            [{"id": each["_id"]} | {name: each[name] for name in columns} for each in entries]
        )

    task = mteb.get_task("SciFact")
    split = {
        "corpus": rows(corpus, "title", "text"),
        "queries": rows(queries, "text"),
        "relevant_docs": qrels,
        "top_ranked": None,
    }
    task.dataset, task.data_loaded = {"default": {"test": split}}, True
    return task


def main_scores(bundle: Path, tasks: Sequence[Any]) -> dict[str, float]:
    """Evaluate a bundle; return each task's main score, from 0 to 1."""
    import mteb  # noqa: PLC0415

    from embedrt.integrations.mteb import EmbedrtModel  # noqa: PLC0415

    results = mteb.evaluate(
        EmbedrtModel(bundle), tasks, cache=None, show_progress_bar=False, co2_tracker=False
    )
    return {each.task_name: each.get_score() for each in results.task_results}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of `benchmarks/mteb.md`."""
    parser = argparse.ArgumentParser(prog="benchmarks.mteb_scores", description=__doc__)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("bundles", metavar="BUNDLE", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    tasks = sts_benchmark(options.data), scifact(options.data / "scifact_beir")
    print(head("", *PUBLISHED))
    rows = {"published, sentence-transformers": PUBLISHED}
    for bundle in options.bundles:
        rows[bundle.name] = main_scores(bundle, tasks)
    for name, scores in rows.items():
        print(row(name, *(f"{scores[task]:.5f}" for task in PUBLISHED)))


if __name__ == "__main__":
    main()
