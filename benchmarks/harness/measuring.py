"""How each kind of workload is measured. A kind is a function and its entry in `KINDS`.

Contenders alternate at a workload, so that a slow phase of the machine affects all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import quality
from benchmarks.harness.catalog import ContenderError
from benchmarks.harness.environments import installed
from benchmarks.harness.plan import Workload
from benchmarks.harness.processes import Pool
from benchmarks.harness.retrieval import Retrieval
from benchmarks.harness.texts import BLOCK, Texts

TEXTS_PER_BATCH = 32  # for workloads that compare batches with single texts
PAUSE = 0.05  # seconds between the calls to a service with little load
UNITS = {
    **dict.fromkeys(("seconds", "latency"), "seconds"),
    **dict.fromkeys(("total", "python", "import", "load", "first vector", "compile"), "seconds"),
    **dict.fromkeys(("ndcg@10", "share", "mean", "first percentile", "smallest"), ""),
    "spearman": "points",
}
BYTES = "bytes"  # the unit of all other measures

Vectors = NDArray[np.float32]
Answer = dict[str, Any]
"""Maps a measure to its value or a list of values."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The context of all measurements of a model."""

    pool: Pool
    texts: Texts
    scratch: Path
    """Folder through which contenders return vectors."""
    retrieval: Retrieval | None = None
    known: dict[tuple[str, Path], Vectors] = field(default_factory=dict)
    """Vectors by contender and file of texts, kept because several scores use them."""

    def ask(self, name: str, do: str, key: str, **arguments: float) -> Answer:
        """Send a request with the texts of a key to a contender."""
        return self.pool.ask(name, do, texts=str(self.texts.file(key)), **arguments)

    def vectors(self, name: str, texts: Path, batch: int | None = None) -> Vectors:
        """Return a contender's vectors of a file of texts, from one call or calls of `batch`."""
        output = self.scratch / "vectors.npy"
        self.pool.ask(name, "vectors", texts=str(texts), output=str(output), batch=batch)
        vectors: Vectors = np.load(output)
        return vectors

    def known_vectors(self, name: str, key: str) -> Vectors:
        """Return a contender's vectors of the texts of a key, computed once."""
        file = self.texts.file(key)
        if (name, file) not in self.known:
            self.known[name, file] = self.vectors(name, file)
        return self.known[name, file]

    def reference(self, key: str) -> Vectors:
        """Return the reference's vectors of the texts of a key."""
        vectors: Vectors = np.load(self.texts.file(key).with_suffix(".npy"))
        return vectors


Once = Callable[[Bench, Workload, str], Answer]
"""Runs one repetition of a workload with the contender of this name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of workload is measured."""

    once: Once
    timed: bool = False
    """Whether the first repetition warms up and is not counted."""
    compared: bool = False
    """Whether vectors are compared with the reference's; timed work does so before it begins."""
    fresh: bool = False
    """Whether each repetition starts a process, while no other process is loaded."""


@dataclass(frozen=True, slots=True)
class Turns:
    """The answers of all contenders at one workload."""

    answers: dict[str, list[Answer]]
    """One answer per repetition for each contender that never failed."""
    failures: dict[str, str]
    """The reasons for which the others failed."""


def take_turns(
    names: Sequence[str],
    repetitions: int,
    warm_up: Callable[[str], object],
    once: Callable[[str], Answer],
) -> Turns:
    """Warm up each contender, then let all of them do the work once per round.

    A different contender is first in each round. A contender that fails is skipped from then on.
    """
    turns = Turns({name: [] for name in names}, {})
    for turn in range(-1, repetitions):
        first = max(turn, 0) % len(names)
        for name in (*names[first:], *names[:first]):
            if name in turns.failures:
                continue
            try:
                if turn < 0:
                    warm_up(name)
                else:
                    turns.answers[name].append(once(name))
            except ContenderError as error:
                turns.failures[name] = str(error)
                del turns.answers[name]
    return turns


def measure(bench: Bench, workload: Workload, names: Sequence[str]) -> Turns:
    """Measure these contenders at a workload, alternating between them."""
    kind = KINDS[workload.kind]
    bench.pool.tune(workload.purpose)
    if kind.fresh:
        bench.pool.close()

    def warm_up(name: str) -> None:
        if kind.timed and kind.compared:
            vectors = bench.vectors(name, bench.texts.file(workload.texts))
            quality.check_answer(vectors, bench.reference(workload.texts))
        if kind.timed:
            once(name)

    def once(name: str) -> Answer:
        try:
            return kind.once(bench, workload, name)
        finally:
            if kind.fresh:
                bench.pool.close()

    return take_turns(names, workload.repetitions, warm_up, once)


def _asked(do: str, **arguments: float) -> Once:
    """Return a function that sends the request `do` with the texts to a contender's worker."""
    return lambda bench, workload, name: bench.ask(name, do, workload.texts, **arguments)


def _concurrent(bench: Bench, workload: Workload, name: str) -> Answer:
    """Measure several threads that call with one text at a time."""
    return bench.ask(name, "concurrent", workload.texts, callers=workload.count)


def _memory(bench: Bench, workload: Workload, name: str) -> Answer:
    """Measure the memory of a process after each block of texts."""
    answers = [bench.ask(name, "remember", key) for key in workload.keys]
    if not answers[0]["peak"]:
        raise ContenderError("memory cannot be read: this system has no /proc/self/status")
    last = {"after 10000 texts": answers[-1]["now"]} if len(answers) * BLOCK == 10_000 else {}
    return {
        "after import": answers[0]["after import"],
        "after load": answers[0]["after load"],
        "peak 1000 texts": answers[0]["peak"],
        "curve": [answer["now"] for answer in answers],
        **last,
    }


def _size(bench: Bench, _: Workload, name: str) -> Answer:
    """Measure the bytes on disk of the artifact and of the environment."""
    files = (file for file in bench.pool.artifact(name).rglob("*") if file.is_file())
    return {
        "bundle": sum(file.stat().st_size for file in files),
        "installed": installed(bench.pool.contenders[name].environment).installed_bytes,
    }


def _stsb(bench: Bench, workload: Workload, name: str) -> Answer:
    """Compute the correlation of cosines with the human scores of the STS benchmark."""
    return {"spearman": quality.sts_spearman(bench.known_vectors(name, workload.texts))}


def _cosine(bench: Bench, workload: Workload, name: str) -> Answer:
    """Compute the cosine of each vector with that of the fp32 reference."""
    key = workload.texts
    return quality.describe_cosines(bench.known_vectors(name, key), bench.reference(key))


def _same_bytes(bench: Bench, workload: Workload, name: str) -> Answer:
    """Compute the share of texts whose vectors have the same bytes alone and in a batch."""
    texts = bench.texts.file(workload.texts)
    alone, together = (bench.vectors(name, texts, batch) for batch in (1, TEXTS_PER_BATCH))
    return {"share": quality.share_of_equal_rows(alone, together)}


def _beir(bench: Bench, _: Workload, name: str) -> Answer:
    """Rank the documents for each query."""
    task = bench.retrieval
    assert task is not None  # this workload is in the plan only with --beir
    path = bench.scratch / "retrieval.json"
    found = []
    for texts in (task.queries, task.documents):
        path.write_text(json.dumps(texts), encoding="utf-8")
        found.append(bench.vectors(name, path))
    queries, documents = found
    return {"ndcg@10": quality.ndcg(queries, documents, task.judgments)}


KINDS = {
    "each": Kind(_asked("each"), timed=True, compared=True),  # one call per text
    "spaced": Kind(_asked("each", pause=PAUSE), timed=True, compared=True),
    "call": Kind(_asked("call"), timed=True, compared=True),  # one call with all texts
    "concurrent": Kind(_concurrent, timed=True, compared=True),
    "startup": Kind(_asked("first"), timed=True, fresh=True),
    "long": Kind(_asked("long"), fresh=True),  # one text in a process of its own
    "memory": Kind(_memory, fresh=True),
    "size": Kind(_size),
    "stsb": Kind(_stsb),
    "cosine": Kind(_cosine, compared=True),
    "same bytes": Kind(_same_bytes),
    "beir": Kind(_beir),
}
