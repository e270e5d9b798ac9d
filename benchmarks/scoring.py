"""Measures one query with 100 documents: ``python -m benchmarks.scoring ORIGINAL BUNDLE...``.

All bundles come from one original. A reranker scores the pairs; other encoders (dense, sparse, late
interaction) encode the query and the documents, and score them by their similarity. They are
compared with the original in sentence-transformers, in fp32, with its default batch size and with
smaller ones. Each contender runs in a process of its own. They take turns, so that a slow phase of
the machine affects all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.harness.texts import exact_texts
from benchmarks.markdown import head, row
from benchmarks.padding import open_tokenizer
from benchmarks.statistics import median, ratio
from benchmarks.timing import Times
from embedrt import Bundle
from embedrt.bundle.manifest import Task
from embedrt.tasks import class_of

DOCUMENTS = 100
TOKENS = 100
QUERY = "how many people live in london"
BATCHES = (32, 8)  # of sentence-transformers; 32 is its default

ORIGINALS: dict[Task, str] = {
    "embedding": "SentenceTransformer",
    "late-interaction": "MultiVectorEncoder",
    "reranking": "CrossEncoder",
    "sparse": "SparseEncoder",
}


class Scorer:
    """A model that scores documents for a query: raw scores, or similarities."""

    loaded: Scorer
    """The scorer of this process, which `load` sets."""

    def __init__(self, task: Task, path: Path, batch: int | None) -> None:
        """Load a bundle, or with a `batch` size an original."""
        self.task, self.times = task, Times()
        self.options: dict[str, Any] = {}
        self.identity: Any = "Identity"
        if batch is None:
            self.model: Any = class_of(task).load(path)
            return
        import sentence_transformers  # noqa: PLC0415  # heavy, and not for the processes of bundles
        import torch  # noqa: PLC0415

        original = getattr(sentence_transformers, ORIGINALS[task])
        self.model = original(str(path), device="cpu", local_files_only=True)
        self.options, self.identity = {"batch_size": batch}, torch.nn.Identity()

    def score(self, documents: Sequence[str]) -> Any:
        """Return a score for each document."""
        if self.task == "reranking":
            pairs = [(QUERY, document) for document in documents]
            return self.model.predict(pairs, activation_fn=self.identity, **self.options)
        query = self.model.encode_query([QUERY], **self.options)
        return self.model.similarity(
            query, self.model.encode_document(list(documents), **self.options)
        )[0]


def load(task: Task, path: Path, batch: int | None) -> None:
    """Load the scorer of this process."""
    Scorer.loaded = Scorer(task, path, batch)


def run(documents: Sequence[str]) -> tuple[list[float], Times]:
    """Score in this process; return the scores, and the times of all runs until now."""
    scores, scorer = list[float](), Scorer.loaded
    scorer.times.add(lambda: scores.extend(map(float, scorer.score(documents))))
    return scores, scorer.times


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.scoring", description=__doc__)
    parser.add_argument("original", metavar="ORIGINAL", type=Path)
    parser.add_argument("bundles", metavar="BUNDLE", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    documents = exact_documents(options.original)
    task = Bundle.open(options.bundles[0]).manifest.task
    scorers = [
        *((f"{ORIGINALS[task]}, batches of {n}", options.original, n) for n in BATCHES),
        *((f"embedrt {bundle.name}", bundle, None) for bundle in options.bundles),
    ]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                ProcessPoolExecutor(
                    1, get_context("spawn"), initializer=load, initargs=(task, path, batch)
                )
            )
            for _, path, batch in scorers
        ]
        for _ in range(options.rounds + 1):
            found = [process.submit(run, documents).result() for process in processes]
    report([name for name, *_ in scorers], found)


def report(names: Sequence[str], found: Sequence[tuple[Sequence[float], Times]]) -> None:
    """Print medians, and ratios to the faster one of sentence-transformers."""
    for _, times in found:
        del times.wall[0], times.cpu[0]  # the first round warms up
    first, base = min(found[: len(BATCHES)], key=lambda one: median(one[1].wall))
    print(head("", "wall ms", "CPU ms", "wall ratio", "CPU ratio", "largest difference"))
    for name, (scores, times) in zip(names, found, strict=True):
        medians = (f"{1e3 * median(seconds):.0f}" for seconds in (times.wall, times.cpu))
        ratios = f"{ratio(base.wall, times.wall):.2f}", f"{ratio(base.cpu, times.cpu):.2f}"
        difference = max(abs(one - other) for one, other in zip(scores, first, strict=True))
        print(row(name, *medians, *ratios, f"{difference:.1e}"))


def exact_documents(original: Path) -> list[str]:
    """Return different texts of exactly `TOKENS` tokens, without special tokens."""
    tokenizer = open_tokenizer(original, 10**6)
    special = len(tokenizer.encode("").ids)
    return exact_texts(tokenizer, TOKENS + special, DOCUMENTS)


if __name__ == "__main__":
    main()
