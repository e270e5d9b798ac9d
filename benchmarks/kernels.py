"""Measures the kernels against ONNX Runtime: ``python -m benchmarks.kernels BUNDLE``.

Prints a table of CPU milliseconds, or with ``--clock`` of milliseconds by the clock: of batches by
their shape, texts x tokens, and of a corpus of texts of many lengths. The two engines alternate,
and the figures are the fastest runs and the ratio of the medians. CPU time depends little on other
load; for several cores, only the clock measures the gain, and requires a quiet machine.

``--quality FP32_BUNDLE`` prints instead how well both engines do: the correlation with the human
scores of the STS benchmark, nDCG@10 of the retrieval task in ``--beir FOLDER``, and the cosines to
the vectors in fp32, also of 5,000 odd texts. ``--start`` prints the time from the start of a
process to its first vector, and the peak memory of one that embeds 1,000 texts, in both engines.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.harness.engine_quality import ENGINES, HEADER, engine_qualities
from benchmarks.harness.texts import many_texts, mixed_texts, read_retrieval
from benchmarks.machine.describe import describe_machine
from benchmarks.statistics import median
from embedrt import Embedder
from embedrt.bench.footprint import Memory, Startup, measure_process
from embedrt.bundle.reader import Bundle
from embedrt.engine.runner import Runner
from embedrt.engine.session import Session
from embedrt.kernels.choose import VARIABLE, Use, choose_unloaded

SHAPES = ((1, 8), (1, 16), (1, 64), (1, 256), (16, 16), (4, 64), (16, 64), (2, 128))
TOKENS = 6_000  # of each shape, so that short batches are measured often
FEWEST = 7
WORDS = 1000  # ids of tokens are below; every real vocabulary has more
TEXTS = 300  # of the corpus
CORPUS_ROUNDS = 5
PROCESSES = 9  # of each engine, for the start; a third of them embed texts

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Pair:
    """The seconds of the same work in the kernels and in ONNX Runtime."""

    kernels: list[float]
    runtime: list[float]

    def row(self, name: str) -> str:
        """Return a row of the table."""
        fastest = f"{min(self.runtime) * 1e3:.2f} | {min(self.kernels) * 1e3:.2f}"
        return f"| {name} | {fastest} | {median(self.runtime) / median(self.kernels):.2f} |"


def alternate(
    kernels: Callable[[], object], runtime: Callable[[], object], rounds: int, clock: Clock
) -> Pair:
    """Measure both, in turns, after a run that is not measured."""
    pair = Pair([], [])
    for _ in range(rounds + 1):
        for work, seconds in ((kernels, pair.kernels), (runtime, pair.runtime)):
            start = clock()
            work()
            seconds.append(clock() - start)
    return Pair(pair.kernels[1:], pair.runtime[1:])


def measure_shapes(kernels: Runner, runtime: Runner, clock: Clock) -> None:
    """Print a row for each shape of a batch."""
    random = np.random.default_rng(0)
    for batch, tokens in SHAPES:
        ids = random.integers(0, WORDS, (batch, tokens))
        rounds = max(FEWEST, TOKENS // ids.size)
        pair = alternate(partial(kernels.run, ids), partial(runtime.run, ids), rounds, clock)
        print(pair.row(f"{batch} x {tokens}"), flush=True)


def show_start(bundle: Path) -> None:
    """Print a row for the time and one for the memory of new processes, started in turns."""

    def processes(texts: Sequence[str], count: int) -> dict[Use, list[tuple[Startup, Memory]]]:
        found: dict[Use, list[tuple[Startup, Memory]]] = {use: [] for use in ENGINES}
        for _ in range(count):
            for use in ENGINES:
                with patch.dict(os.environ, {VARIABLE: use}):
                    found[use].append(measure_process(bundle, texts))
        return found

    print("| | ONNX Runtime | kernels | ratio |\n|---|--:|--:|--:|")
    started = processes([], PROCESSES)
    seconds = [median([startup.total for startup, _ in started[use]]) for use in ENGINES]
    loading = [median([startup.loading for startup, _ in started[use]]) for use in ENGINES]
    for what, (slow, fast) in (("start to first vector", seconds), ("of it loading", loading)):
        print(f"| {what}, s | {slow:.3f} | {fast:.3f} | {slow / fast:.2f} |")
    filled = processes(many_texts(1000, seed=0), PROCESSES // 3)
    peaks = [median([memory.peak or 0 for _, memory in filled[use]]) / 1e6 for use in ENGINES]
    more, less = peaks
    print(f"| peak of load and 1,000 texts, MB | {more:.0f} | {less:.0f} | {more / less:.2f} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.kernels", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--threads", type=int, default=1, help="cores (default: 1)")
    parser.add_argument("--clock", action="store_true", help="measure by the clock")
    parser.add_argument("--quality", type=Path, metavar="FP32_BUNDLE")
    parser.add_argument("--beir", type=Path, metavar="FOLDER", help="retrieval task to score")
    parser.add_argument("--start", action="store_true", help="measure new processes")
    options = parser.parse_args(arguments)
    if options.quality is not None:
        task = read_retrieval(options.beir) if options.beir else None
        print(HEADER)
        for found in engine_qualities(options.bundle, options.quality, task):
            print(found, flush=True)
        return 0
    if options.start:
        show_start(options.bundle)
        return 0
    threads, clock = options.threads, time.perf_counter if options.clock else time.process_time
    bundle = Bundle.open(options.bundle)
    chosen = choose_unloaded(bundle, "require").kernels
    assert chosen is not None  # otherwise it raises
    runtime = Session(bundle.graph, "int8", threads=threads)
    print(
        f"{describe_machine().processor}, cores used: {threads}; {chosen.name} and {runtime.name}\n"
    )
    unit = "ms" if options.clock else "CPU ms"
    print(f"| texts x tokens | ONNX Runtime, {unit} | kernels, {unit} | ratio |\n|---|--:|--:|--:|")
    kernels = chosen if threads == 1 else chosen.on(threads)
    measure_shapes(kernels, runtime, clock)
    texts = mixed_texts(TEXTS, seed=0)
    with (
        Embedder.load(options.bundle, threads=threads, kernels="require") as fast,
        Embedder.load(options.bundle, threads=threads, kernels="off") as slow,
    ):
        pair = alternate(
            lambda: fast.encode(texts), lambda: slow.encode(texts), CORPUS_ROUNDS, clock
        )
    print(pair.row(f"{TEXTS} texts of many lengths"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
