"""How each kind of work is measured: contenders in, figures out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import beir, quality
from benchmarks.environments import installed_bytes
from benchmarks.failure import ContenderError
from benchmarks.plan import Workload
from benchmarks.pool import Pool
from benchmarks.texts import BLOCK, Texts, pairs, sentences
from benchmarks.turns import Answer, Turns, take_turns

TEXTS_PER_BATCH = 32
PAUSE = 0.05  # seconds between the calls of a service that is not busy
STAGES = ("total", "python", "import", "load", "first vector")
UNITS = {
    **dict.fromkeys(("seconds", "latency", *STAGES, "compile"), "seconds"),
    **dict.fromkeys(("ndcg@10", "share", "mean", "first percentile", "smallest"), ""),
    "spearman": "points",
}
Vectors = NDArray[np.float32]
BYTES = "bytes"  # the unit of all other measures


@dataclass(frozen=True)
class Result:
    """What one contender did: values by measure, or why there are none."""

    values: Mapping[str, tuple[float, ...]]
    error: str = ""


@dataclass(frozen=True)
class Bench:
    """All that measuring needs."""

    pool: Pool
    texts: Texts
    scratch: Path
    """Where vectors pass from contenders to us."""
    beir_folder: Path | None = None
    known: dict[tuple[str, str], Vectors] = field(default_factory=dict)
    """What a contender made of texts that more than one score is taken from."""


def measure(bench: Bench, workload: Workload, names: Sequence[str]) -> dict[str, Result]:
    """Measure the contenders at this work; each has a result."""
    bench.pool.tune(workload.purpose)
    turns = KINDS[workload.kind](bench, workload, names)
    results = {name: Result(_gather(answers)) for name, answers in turns.answers.items()}
    results |= {name: Result({}, error) for name, error in turns.failures.items()}
    return {name: results[name] for name in names}


def size_of_work(bench: Bench, workload: Workload) -> tuple[int, int]:
    """Texts and tokens of one repetition; of start-up, the one text; 0 and 0 where none is."""
    match workload.kind:
        case "size":
            return 0, 0
        case "memory":
            return workload.count * BLOCK, sum(
                bench.texts.tokens(f"block/{number}") for number in range(workload.count)
            )
        case "startup":
            first = len(bench.texts.read(workload.texts))
            return 1, bench.texts.tokens(workload.texts) // first
        case "beir":
            task = _retrieval(bench)
            return len(task.queries) + len(task.documents), 0
        case _:
            return len(bench.texts.read(workload.texts)), bench.texts.tokens(workload.texts)


def _gather(answers: Sequence[Answer]) -> dict[str, tuple[float, ...]]:
    """Put the values of all repetitions behind one another, measure by measure."""
    gathered: dict[str, list[float]] = {}
    for answer in answers:
        for measure_name, value in answer.items():
            gathered.setdefault(measure_name, []).extend(
                value if isinstance(value, list) else [value]
            )
    return {name: tuple(values) for name, values in gathered.items()}


def _timed(do: str, **options: object) -> Callable[[Bench, Workload, Sequence[str]], Turns]:
    """Time what workers do with texts, after they have shown that they do it right."""

    def measure_time(bench: Bench, workload: Workload, names: Sequence[str]) -> Turns:
        arguments = options | ({"callers": workload.count} if do == "concurrent" else {})
        path = str(bench.texts.file(workload.texts))

        def warm_up(name: str) -> None:
            quality.check_answer(_vectors(bench, name, workload.texts), _reference(bench, workload))
            once(name)

        def once(name: str) -> Answer:
            return bench.pool.ask(name, do, texts=path, **arguments)

        return take_turns(names, workload.repetitions, warm_up, once)

    return measure_time


def _startup(bench: Bench, workload: Workload, names: Sequence[str]) -> Turns:
    """Time new processes from their start to their first vector."""
    bench.pool.close()
    text = bench.texts.read(workload.texts)[0]

    def once(name: str) -> Answer:
        with bench.pool.fresh(name) as process:
            answer = bench.pool.ask_process(name, process, "first", text=text)
        kept = (*STAGES, "compile") if bench.pool.contenders[name].compiles else STAGES
        return {stage: answer[stage] for stage in kept}

    return take_turns(names, workload.repetitions, once, once)


def _memory(bench: Bench, workload: Workload, names: Sequence[str]) -> Turns:
    """Watch the memory of new processes; nothing is repeated."""
    bench.pool.close()

    def once(name: str) -> Answer:
        with bench.pool.fresh(name) as process:
            blocks = [
                bench.pool.ask_process(
                    name, process, "remember", texts=str(bench.texts.file(f"block/{number}"))
                )
                for number in range(workload.count)
            ]
        if not blocks[0]["peak"]:
            raise ContenderError("this system does not tell a process's memory")
        last = {"after 10000 texts": blocks[-1]["now"]} if len(blocks) * BLOCK == 10_000 else {}
        return {
            "after import": blocks[0]["after import"],
            "after load": blocks[0]["after load"],
            "peak 1000 texts": blocks[0]["peak"],
            "curve": [block["now"] for block in blocks],
            **last,
        }

    return take_turns(names, 1, _nothing, once)


def _size(bench: Bench, workload: Workload, names: Sequence[str]) -> Turns:
    """Add up what a contender needs on disk: the model's files, and the installed packages."""
    del workload

    def once(name: str) -> Answer:
        files = [file for file in bench.pool.artifact(name).rglob("*") if file.is_file()]
        return {
            "bundle": sum(file.stat().st_size for file in files),
            "installed": installed_bytes(bench.pool.contenders[name].environment),
        }

    return take_turns(names, 1, _nothing, once)


def _stsb(bench: Bench, workload: Workload, names: Sequence[str]) -> Turns:
    """Compare the order of the pairs by cosine with people's; in points, as MTEB reports it."""
    rows = {text: row for row, text in enumerate(sentences())}
    first, second, scores = zip(*pairs(), strict=True)

    def once(name: str) -> Answer:
        vectors = _known_vectors(bench, name, workload.texts)
        found = quality.cosines(
            vectors[[rows[text] for text in first]], vectors[[rows[text] for text in second]]
        )
        return {"spearman": 100 * quality.spearman(list(found), scores)}

    return take_turns(names, 1, _nothing, once)


def _cosine(bench: Bench, workload: Workload, names: Sequence[str]) -> Turns:
    """Compare each vector with the fp32 reference's."""

    def once(name: str) -> Answer:
        vectors = _known_vectors(bench, name, workload.texts)
        found = quality.cosines(vectors, _reference(bench, workload))
        return {
            "mean": float(found.mean()),
            "first percentile": float(np.percentile(found, 1)),
            "smallest": float(found.min()),
        }

    return take_turns(names, 1, _nothing, once)


def _same_bytes(bench: Bench, workload: Workload, names: Sequence[str]) -> Turns:
    """Compare the bytes of each text's vector alone with those in a batch."""

    def once(name: str) -> Answer:
        alone = _vectors(bench, name, workload.texts, batch=1)
        together = _vectors(bench, name, workload.texts, batch=TEXTS_PER_BATCH)
        return {"share": quality.share_of_equal_rows(alone, together)}

    return take_turns(names, 1, _nothing, once)


def _beir(bench: Bench, workload: Workload, names: Sequence[str]) -> Turns:
    """Search the documents for each query."""
    del workload
    task = _retrieval(bench)

    def embed(name: str, texts: list[str]) -> Vectors:
        path = bench.scratch / "retrieval.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        return _ask_vectors(bench, name, path)

    def once(name: str) -> Answer:
        queries, documents = embed(name, task.queries), embed(name, task.documents)
        return {"ndcg@10": quality.ndcg(queries, documents, task.judgments)}

    return take_turns(names, 1, _nothing, once)


KINDS = {
    "each": _timed("each"),
    "spaced": _timed("each", pause=PAUSE),
    "call": _timed("call"),
    "concurrent": _timed("concurrent"),
    "startup": _startup,
    "memory": _memory,
    "size": _size,
    "stsb": _stsb,
    "beir": _beir,
    "cosine": _cosine,
    "same bytes": _same_bytes,
}


def _known_vectors(bench: Bench, name: str, texts: str) -> Vectors:
    if (name, texts) not in bench.known:
        bench.known[name, texts] = _vectors(bench, name, texts)
    return bench.known[name, texts]


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


def _retrieval(bench: Bench) -> beir.Retrieval:
    if bench.beir_folder is None:
        raise ValueError("retrieval needs a folder with a task")
    return beir.read_retrieval(bench.beir_folder)


def _nothing(name: str) -> None:
    del name
