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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, fields
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.texts import many_texts, mixed_texts, sentences
from benchmarks.markdown import head, row
from benchmarks.statistics import median, percentile
from benchmarks.timing import each_call, in_turns
from embedrt import Bundle, Embedder
from embedrt.bench.footprint import Startup, measure_process
from embedrt.bench.measure import PASSAGE
from embedrt.kernels.choose import USES, VARIABLE, choose_unloaded, default_use

THREADS = 16
TASKS = 64
TEXTS = 640  # per round; a multiple of the numbers of threads and of tasks
LONE = 200  # texts whose latency is measured, once on an idle engine and once beside a corpus
PROCESSES = 9
PRIVATE = """
import sys
import embedrt.embedder, onnxruntime, tokenizers
from embedrt.bench.memory import private_bytes
before = private_bytes()
embedder = embedrt.Embedder.load(sys.argv[1])
print(private_bytes() - before, flush=True)
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
Row = tuple[str, str, str]
"""What was measured, the figure, and a note."""


def main(arguments: Sequence[str] | None = None) -> None:
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
    print(head("what", "figure", ""))
    for workload in options.only:
        for cells in WORKLOADS[workload](options.bundle, options.rounds):
            print(row(*cells), flush=True)


def concurrent(bundle: Path, rounds: int) -> Iterator[Row]:
    """Compare many callers of one text each with one call of all texts."""
    texts = sentences()[:TEXTS]
    with Embedder.load(bundle) as embedder:
        ways: dict[str, Callable[[], Vectors]] = {
            "one call": lambda: embedder.encode(texts),
            f"{THREADS} threads": lambda: by_threads(embedder, texts),
            f"{TASKS} tasks": lambda: asyncio.run(by_tasks(embedder, texts)),
        }
        if len({way().tobytes() for way in ways.values()}) > 1:
            raise RuntimeError("callers that share batches got other bytes than one call")
        times = in_turns(ways, rounds)
    base = times.pop("one call")
    wall, cpu = median(base.wall), median(base.cpu)
    yield "one call, texts a second", f"{TEXTS / wall:,.0f}", ""
    for way, found in times.items():
        note = f"{cpu / median(found.cpu):.3f} in processor time"
        yield f"{way} / one call", f"{wall / median(found.wall):.3f}", note


def by_threads(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Embed the texts with `THREADS` threads that call with one text at a time.

    The pool gets one task for each thread: a task for each text would be measured too.
    """

    def work(first: int) -> list[Vectors]:
        return [embedder.encode(text) for text in texts[first::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        return in_order(list(pool.map(work, range(THREADS))))


async def by_tasks(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Embed the texts with `TASKS` tasks that call with one text at a time."""

    async def task(first: int) -> list[Vectors]:
        return [await embedder.aencode(text) for text in texts[first::TASKS]]

    return in_order(await asyncio.gather(*map(task, range(TASKS))))


def in_order(parts: Sequence[Sequence[Vectors]]) -> Vectors:
    """Return the vectors of callers that took one text each, in turns, in the texts' order."""
    return np.stack(list(chain.from_iterable(zip(*parts, strict=True))))


def beside(bundle: Path, _: int) -> Iterator[Row]:
    """Compare the latency of single texts beside a corpus with that on an idle engine."""
    lone, corpus = sentences()[:LONE], mixed_texts(2000, seed=1)
    with Embedder.load(bundle) as embedder:
        done = threading.Event()

        def embed_corpus() -> None:
            while not done.is_set():
                for _ in embedder.embed_stream(corpus):
                    if done.is_set():
                        return

        idle = each_call(embedder.encode, lone)
        thread = threading.Thread(target=embed_corpus)
        thread.start()
        try:
            busy = each_call(embedder.encode, lone)
        finally:
            done.set()
            thread.join()
    for share in (50, 99):
        alone, other = (percentile(times, share / 100) for times in (idle, busy))
        figure = f"{other / alone:.3f}"
        yield f"a text beside a corpus / idle, p{share}", figure, f"idle {alone * 1e3:.2f} ms"


def startup(bundle: Path, _: int) -> Iterator[Row]:
    """Measure the time from the start of a process to its first vector."""
    runs = [measure_process(bundle)[0] for _ in range(PROCESSES)]
    phases = zip(fields(Startup), zip(*map(astuple, runs), strict=True), strict=True)
    note = ", ".join(f"{phase.name} {median(seconds):.3f}" for phase, seconds in phases)
    yield "start", f"{median([run.total for run in runs]):.3f} s", note


def memory(bundle: Path, _: int) -> Iterator[Row]:
    """Measure the peak memory of a process that loads the bundle and embeds 1,000 texts."""
    found = measure_process(bundle, many_texts(1000, seed=0))[1]
    note = f"{megabytes(found.after_import)} after the imports"
    yield "peak of load and 1,000 texts", megabytes(found.peak), note


def shared(bundle: Path, _: int) -> Iterator[Row]:
    """Measure the private memory of a second process, above that of the imports."""
    with process_of(PRIVATE, bundle) as first, process_of(PRIVATE, bundle) as second:
        for process in (first, second):
            assert process.stdout is not None
            private = int(process.stdout.readline())
        for process in (first, second):
            process.communicate("")
    yield "a second process adds", megabytes(private), "private memory"


def long(bundle: Path, _: int) -> Iterator[Row]:
    """Measure one text of maximum length in a new process."""
    with Embedder.load(bundle) as embedder:
        tokens = embedder.max_tokens
    text = " ".join(islice(cycle(PASSAGE), tokens))
    with process_of(LONG, bundle) as process:
        seconds, grown = map(float, process.communicate(text)[0].split())
    yield f"a text of {tokens} tokens", f"{seconds:.3f} s", ""
    yield f"a text of {tokens} tokens, above load", megabytes(grown), ""


def megabytes(size: float | None) -> str:
    """Format bytes."""
    return f"{(size or 0) / 1e6:.0f} MB"


def process_of(script: str, bundle: Path) -> subprocess.Popen[str]:
    """Start a script with a bundle as its argument."""
    return subprocess.Popen(  # noqa: S603 - our own scripts in our own interpreter
        [sys.executable, "-c", script, str(bundle)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


WORKLOADS = {each.__name__: each for each in (concurrent, beside, startup, memory, shared, long)}

if __name__ == "__main__":
    main()
