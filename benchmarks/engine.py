"""Measures the engine with concurrent callers: ``python -m benchmarks.engine BUNDLE``.

Each figure is a ratio of measurements that alternate in one run, or the memory of a new process:

- ``concurrent``: texts per second of 16 threads, and of 64 tasks that use `Embedder.aencode`, with
  one text per call, relative to one call with all texts. The vectors must have the same bytes.
- ``beside``: the 99th percentile of the latency of one text while another thread embeds a corpus,
  relative to the same texts on an idle engine.
- ``startup``: seconds from the start of a process to its first vector.
- ``memory``: peak resident memory of a process that loads the bundle and embeds 1,000 texts.
- ``shared``: private memory that a second process adds when it has loaded the bundle.
- ``long``: seconds, and memory above that of the loaded bundle, for one text of maximum length.

``--kernels off`` and ``--kernels require`` choose the engine. `benchmarks.kernels` with ``--start``
has both in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.texts import many_texts, mixed_texts, sentences
from benchmarks.statistics import median, percentile
from embedrt import Bundle, Embedder
from embedrt.bench.footprint import measure_process
from embedrt.bench.measure import PASSAGE
from embedrt.kernels.choose import USES, VARIABLE, choose_unloaded, default_use

THREADS = 16
TASKS = 64
TEXTS = 640  # per round; a multiple of the numbers of threads and of tasks
LONE = 200  # texts whose latency is measured, once on an idle engine and once beside a corpus
PROCESSES = 9
PRIVATE = """
import sys
from pathlib import Path
import embedrt.embedder, onnxruntime, tokenizers
def private():
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024
before = private()
embedder = embedrt.Embedder.load(sys.argv[1])
print(private() - before, flush=True)
sys.stdin.read()
"""
LONG = """
import sys, time
from embedrt import Embedder
from embedrt.bench.memory import peak_bytes, resident_bytes
embedder = Embedder.load(sys.argv[1])
embedder.encode("a")
loaded, start = resident_bytes(), time.perf_counter()
embedder.encode(sys.stdin.read())
print(time.perf_counter() - start, peak_bytes() - loaded)
"""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    what: str
    value: float
    unit: str = ""
    note: str = ""

    def __str__(self) -> str:
        """Format as a row of the table."""
        digits = 0 if self.unit == "MB" else 3
        return f"| {self.what} | {self.value:.{digits}f} {self.unit} | {self.note} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures of one bundle as a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.engine", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument(
        "--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="WORKLOAD"
    )
    parser.add_argument("--kernels", choices=USES, default=default_use(), help="the engine")
    options = parser.parse_intermixed_args(arguments)
    os.environ[VARIABLE] = options.kernels  # for this process and those that it starts
    print(f"{choose_unloaded(Bundle.open(options.bundle)).engine}\n")
    print("| what | figure | |\n|---|--:|---|")
    for workload in options.only:
        for figure in WORKLOADS[workload](options.bundle, options.rounds):
            print(figure, flush=True)
    return 0


def concurrent(bundle: Path, rounds: int) -> Iterator[Figure]:
    """Compare many callers of one text each with one call of all texts."""
    texts = sentences()[:TEXTS]
    with Embedder.load(bundle) as embedder:
        ways: dict[str, Callable[[], Vectors]] = {
            "one call": lambda: embedder.encode(texts),
            f"{THREADS} threads": lambda: by_threads(embedder, texts),
            f"{TASKS} tasks": lambda: asyncio.run(by_tasks(embedder, texts)),
        }
        found = {way: run() for way, run in ways.items()}
        expected = found["one call"].tobytes()
        if any(vectors.tobytes() != expected for vectors in found.values()):
            raise RuntimeError("callers that share batches got other bytes than one call")
        wall: dict[str, list[float]] = {way: [] for way in ways}
        used: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, run in ways.items():
                start, before = time.perf_counter(), time.process_time()
                run()
                wall[way].append(time.perf_counter() - start)
                used[way].append(time.process_time() - before)
    base, base_used = median(wall["one call"]), median(used["one call"])
    yield Figure("one call, texts a second", TEXTS / base)
    for way in list(ways)[1:]:
        note = f"{base_used / median(used[way]):.3f} in processor time"
        yield Figure(f"{way} / one call", base / median(wall[way]), note=note)


def by_threads(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Embed the texts with `THREADS` threads that call with one text at a time.

    They are no pool, whose own work on each text would be measured too.
    """
    parts: list[list[Vectors]] = [[] for _ in range(THREADS)]

    def work(first: int) -> None:
        parts[first] = [embedder.encode(text) for text in texts[first::THREADS]]

    threads = [threading.Thread(target=work, args=(first,)) for first in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return in_order(parts)


async def by_tasks(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Embed the texts with `TASKS` tasks that call with one text at a time."""

    async def task(first: int) -> list[Vectors]:
        return [await embedder.aencode(text) for text in texts[first::TASKS]]

    parts = await asyncio.gather(*(task(first) for first in range(TASKS)))
    return in_order(parts)


def in_order(parts: Sequence[Sequence[Vectors]]) -> Vectors:
    """Return the vectors of callers that took one text each, in turns, in the texts' order."""
    return np.stack(list(chain.from_iterable(zip(*parts, strict=True))))


def beside(bundle: Path, rounds: int) -> Iterator[Figure]:
    """Compare the latency of single texts beside a corpus with that on an idle engine."""
    del rounds
    lone, corpus = sentences()[:LONE], mixed_texts(2000, seed=1)
    with Embedder.load(bundle) as embedder:
        done = threading.Event()

        def embed_corpus() -> None:
            while not done.is_set():
                for _ in embedder.embed_stream(corpus):
                    if done.is_set():
                        return

        idle = _times(embedder, lone)
        thread = threading.Thread(target=embed_corpus)
        thread.start()
        try:
            busy = _times(embedder, lone)
        finally:
            done.set()
            thread.join()
    for share in (50, 99):
        alone = percentile(idle, share / 100)
        ratio = percentile(busy, share / 100) / alone
        note = f"idle {alone * 1e3:.2f} ms"
        yield Figure(f"a text beside a corpus / idle, p{share}", ratio, note=note)


def startup(bundle: Path, rounds: int) -> Iterator[Figure]:
    """Measure the time from the start of a process to its first vector."""
    del rounds
    runs = [measure_process(bundle)[0] for _ in range(PROCESSES)]
    phases = ("python", "importing", "loading", "first_vector")
    medians = [f"{name} {median([getattr(run, name) for run in runs]):.3f}" for name in phases]
    yield Figure("start", median([run.total for run in runs]), "s", ", ".join(medians))


def memory(bundle: Path, rounds: int) -> Iterator[Figure]:
    """Measure the peak memory of a process that loads the bundle and embeds 1,000 texts."""
    del rounds
    found = measure_process(bundle, many_texts(1000, seed=0))[1]
    note = f"{(found.after_import or 0) / 1e6:.0f} MB after the imports"
    yield Figure("peak of load and 1,000 texts", (found.peak or 0) / 1e6, "MB", note)


def shared(bundle: Path, rounds: int) -> Iterator[Figure]:
    """Measure the private memory of a second process, above that of the imports."""
    del rounds
    with _process(PRIVATE, bundle) as first, _process(PRIVATE, bundle) as second:
        for process in (first, second):
            assert process.stdout is not None
            private = int(process.stdout.readline())
        for process in (first, second):
            process.communicate("")
    yield Figure("a second process adds", private / 1e6, "MB", "private memory")


def long(bundle: Path, rounds: int) -> Iterator[Figure]:
    """Measure one text of maximum length in a new process."""
    del rounds
    with Embedder.load(bundle) as embedder:
        tokens = embedder.max_tokens
    text = " ".join(PASSAGE[at % len(PASSAGE)] for at in range(tokens))
    with _process(LONG, bundle) as process:
        seconds, grown = map(float, process.communicate(text)[0].split())
    yield Figure(f"a text of {tokens} tokens", seconds, "s")
    yield Figure(f"a text of {tokens} tokens, above load", grown / 1e6, "MB")


WORKLOADS: dict[str, Callable[[Path, int], Iterator[Figure]]] = {
    "concurrent": concurrent,
    "beside": beside,
    "startup": startup,
    "memory": memory,
    "shared": shared,
    "long": long,
}


def _times(embedder: Embedder, texts: Sequence[str]) -> list[float]:
    seconds = []
    for text in texts:
        start = time.perf_counter()
        embedder.encode(text)
        seconds.append(time.perf_counter() - start)
    return seconds


def _process(script: str, bundle: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own scripts in our own interpreter
        [sys.executable, "-c", script, str(bundle)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


if __name__ == "__main__":
    raise SystemExit(main())
