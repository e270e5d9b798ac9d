"""How each kind of workload is measured. A kind is one function and its entry in `KINDS`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import quality
from benchmarks.harness.environments import installed
from benchmarks.harness.errors import ContenderError
from benchmarks.harness.plan import Workload
from benchmarks.harness.processes import Pool
from benchmarks.harness.texts import BLOCK, Retrieval, Texts, pairs, sentences
from benchmarks.harness.turns import Answer, Turns, take_turns

TEXTS_PER_BATCH = 32  # where vectors of batches are compared with those of single texts
PAUSE = 0.05  # seconds between the calls of a service with little load
STAGES = ("total", "python", "import", "load", "first vector")
UNITS = {
    **dict.fromkeys(("seconds", "latency", *STAGES, "compile"), "seconds"),
    **dict.fromkeys(("ndcg@10", "share", "mean", "first percentile", "smallest"), ""),
    "spearman": "points",
}
BYTES = "bytes"  # the unit of all other measures

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement of a model uses."""

    pool: Pool
    texts: Texts
    scratch: Path
    """Folder through which contenders return vectors."""
    retrieval: Retrieval | None = None
    known: dict[tuple[str, str], Vectors] = field(default_factory=dict)
    """Vectors by contender and texts, kept because several scores use them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of workload is measured."""

    once: Callable[[Bench, Workload, str], Answer]
    """One repetition by a contender: its values by measure, one or a list of them for each."""
    timed: bool = False
    """Whether the first repetition warms up and is not counted."""
    compared: bool = False
    """Whether it compares vectors with the reference's; timed work does so before it begins."""
    fresh: bool = False
    """Whether each repetition starts a process, while no other process is loaded."""
    extent: Callable[[Bench, Workload], tuple[int, int]] | None = None
    """Texts and tokens of a repetition, if they are not those that the workload names."""


def measure(bench: Bench, workload: Workload, names: Sequence[str]) -> Turns:
    """Measure these contenders at a workload, in turns."""
    kind = KINDS[workload.kind]
    bench.pool.tune(workload.purpose)
    if kind.fresh:
        bench.pool.close()

    def warm_up(name: str) -> None:
        if kind.timed and kind.compared:
            quality.check_answer(_vectors(bench, name, workload.texts), _reference(bench, workload))
        if kind.timed:
            once(name)

    def once(name: str) -> Answer:
        return kind.once(bench, workload, name)

    return take_turns(names, workload.repetitions, warm_up, once)


def extent(bench: Bench, workload: Workload) -> tuple[int, int]:
    """Texts and tokens of one repetition; 0 and 0 if it embeds nothing."""
    if special := KINDS[workload.kind].extent:
        return special(bench, workload)
    return len(bench.texts.read(workload.texts)), bench.texts.tokens(workload.texts)


def _asked(do: str, **arguments: float) -> Kind:
    """Have a worker time itself."""

    def once(bench: Bench, workload: Workload, name: str) -> Answer:
        return bench.pool.ask(name, do, texts=str(bench.texts.file(workload.texts)), **arguments)

    return Kind(once, timed=True, compared=True)


def _concurrent(bench: Bench, workload: Workload, name: str) -> Answer:
    """Several threads that call with one text at a time."""
    texts = str(bench.texts.file(workload.texts))
    return bench.pool.ask(name, "concurrent", texts=texts, callers=workload.count)


def _startup(bench: Bench, workload: Workload, name: str) -> Answer:
    """From the start of a process to its first vector."""
    text = bench.texts.read(workload.texts)[0]
    with closing(bench.pool.fresh(name)) as process:
        answer = bench.pool.ask_process(name, process, "first", text=text)
    kept = (*STAGES, "compile") if bench.pool.contenders[name].compiles else STAGES
    return {stage: answer[stage] for stage in kept}


def _memory(bench: Bench, workload: Workload, name: str) -> Answer:
    """Memory of a process after each block of texts."""
    with closing(bench.pool.fresh(name)) as process:
        blocks = [
            bench.pool.ask_process(name, process, "remember", texts=str(bench.texts.file(key)))
            for key in _blocks(workload)
        ]
    if not blocks[0]["peak"]:
        raise ContenderError("memory cannot be read: this system has no /proc/self/status")
    last = {"after 10000 texts": blocks[-1]["now"]} if len(blocks) * BLOCK == 10_000 else {}
    return {
        "after import": blocks[0]["after import"],
        "after load": blocks[0]["after load"],
        "peak 1000 texts": blocks[0]["peak"],
        "curve": [block["now"] for block in blocks],
        **last,
    }


def _size(bench: Bench, workload: Workload, name: str) -> Answer:
    """Bytes on disk of the artifact and of the environment."""
    del workload
    files = (file for file in bench.pool.artifact(name).rglob("*") if file.is_file())
    return {
        "bundle": sum(file.stat().st_size for file in files),
        "installed": installed(bench.pool.contenders[name].environment).installed_bytes,
    }


def _stsb(bench: Bench, workload: Workload, name: str) -> Answer:
    """Correlation of cosines with the human scores of the STS benchmark."""
    rows = {text: row for row, text in enumerate(sentences())}
    first, second, scores = zip(*pairs(), strict=True)
    vectors = _known_vectors(bench, workload, name)
    found = quality.cosines(
        vectors[[rows[text] for text in first]], vectors[[rows[text] for text in second]]
    )
    return {"spearman": 100 * quality.spearman(list(found), scores)}


def _cosine(bench: Bench, workload: Workload, name: str) -> Answer:
    """Cosine of each vector with the fp32 reference's."""
    found = quality.cosines(_known_vectors(bench, workload, name), _reference(bench, workload))
    return {
        "mean": float(found.mean()),
        "first percentile": float(np.percentile(found, 1)),
        "smallest": float(found.min()),
    }


def _same_bytes(bench: Bench, workload: Workload, name: str) -> Answer:
    """Share of texts whose vectors are the same bytes alone and in a batch."""
    alone = _vectors(bench, name, workload.texts, batch=1)
    together = _vectors(bench, name, workload.texts, batch=TEXTS_PER_BATCH)
    return {"share": quality.share_of_equal_rows(alone, together)}


def _beir(bench: Bench, workload: Workload, name: str) -> Answer:
    """Rank the documents for each query."""
    del workload
    task = _retrieval(bench)
    path = bench.scratch / "retrieval.json"
    vectors = []
    for texts in (task.queries, task.documents):
        path.write_text(json.dumps(texts), encoding="utf-8")
        vectors.append(_ask_vectors(bench, name, path))
    queries, documents = vectors
    return {"ndcg@10": quality.ndcg(queries, documents, task.judgments)}


def _one_text(bench: Bench, workload: Workload) -> tuple[int, int]:
    return 1, bench.texts.tokens(workload.texts) // len(bench.texts.read(workload.texts))


def _all_blocks(bench: Bench, workload: Workload) -> tuple[int, int]:
    return workload.count * BLOCK, sum(bench.texts.tokens(key) for key in _blocks(workload))


def _all_documents(bench: Bench, workload: Workload) -> tuple[int, int]:
    del workload
    task = _retrieval(bench)
    return len(task.queries) + len(task.documents), 0


KINDS = {
    "each": _asked("each"),  # a call for each text
    "spaced": _asked("each", pause=PAUSE),
    "call": _asked("call"),  # a call with all texts
    "concurrent": Kind(_concurrent, timed=True, compared=True),
    "startup": Kind(_startup, timed=True, fresh=True, extent=_one_text),
    "memory": Kind(_memory, fresh=True, extent=_all_blocks),
    "size": Kind(_size, extent=lambda *_: (0, 0)),
    "stsb": Kind(_stsb),
    "cosine": Kind(_cosine, compared=True),
    "same bytes": Kind(_same_bytes),
    "beir": Kind(_beir, extent=_all_documents),
}


def _known_vectors(bench: Bench, workload: Workload, name: str) -> Vectors:
    key = name, workload.texts
    if key not in bench.known:
        bench.known[key] = _vectors(bench, *key)
    return bench.known[key]


def _vectors(bench: Bench, name: str, texts: str, batch: int | None = None) -> Vectors:
    return _ask_vectors(bench, name, bench.texts.file(texts), batch)


def _ask_vectors(bench: Bench, name: str, texts: Path, batch: int | None = None) -> Vectors:
    output = bench.scratch / "vectors.npy"
    bench.pool.ask(name, "vectors", texts=str(texts), output=str(output), batch=batch)
    vectors: Vectors = np.load(output)
    return vectors


def _reference(bench: Bench, workload: Workload) -> Vectors:
    vectors: Vectors = np.load(bench.texts.file(workload.texts).with_suffix(".npy"))
    return vectors


def _retrieval(bench: Bench) -> Retrieval:
    if bench.retrieval is None:
        raise ValueError("a retrieval workload needs a task: pass --beir FOLDER")
    return bench.retrieval


def _blocks(workload: Workload) -> list[str]:
    """Keys of the blocks of texts."""
    return [f"block/{number}" for number in range(workload.count)]
