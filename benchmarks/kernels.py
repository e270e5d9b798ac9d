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
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.harness.engine_quality import ENGINES, TITLES, engine_qualities
from benchmarks.harness.retrieval import read_retrieval
from benchmarks.harness.texts import many_texts, mixed_texts
from benchmarks.machine.describe import describe_machine
from benchmarks.markdown import head, row
from benchmarks.statistics import median
from benchmarks.timing import in_turns
from embedrt import Embedder
from embedrt.bench.footprint import Memory, Startup, measure_process
from embedrt.bundle.reader import Bundle
from embedrt.engine.session import Session
from embedrt.kernels.choose import VARIABLE, Use, choose_unloaded

SHAPES = ((1, 8), (1, 16), (1, 64), (1, 256), (16, 16), (4, 64), (16, 64), (2, 128))
TOKENS = 6_000  # of each shape, so that short batches are measured often
FEWEST = 7
WORDS = 1000  # ids of tokens are below; every real vocabulary has more
TEXTS = 300  # of the corpus
CORPUS_ROUNDS = 5
PROCESSES = 9  # of each engine, for the start; a third of them embed texts


def main(arguments: Sequence[str] | None = None) -> None:
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
        print(head(*TITLES))
        for line in engine_qualities(options.bundle, options.quality, task):
            print(line, flush=True)
    elif options.start:
        show_start(options.bundle)
    else:
        show_speed(options)


def show_speed(options: Namespace) -> None:
    """Print a row for each shape of a batch, and one for a corpus."""
    threads, bundle = options.threads, Bundle.open(options.bundle)
    kernels = choose_unloaded(bundle, "require").kernels
    assert kernels is not None  # otherwise it raises
    runtime = Session(bundle.graph, "int8", threads=threads)
    engines = f"{kernels.name} and {runtime.name}"
    print(f"{describe_machine().processor}, cores used: {threads}; {engines}\n")
    unit = "ms" if options.clock else "CPU ms"
    print(head("texts x tokens", f"ONNX Runtime, {unit}", f"kernels, {unit}", "ratio"))

    def show(what: str, fast: Callable[[], object], slow: Callable[[], object], n: int) -> None:
        """Run both `n` times in turns, after a run of each that is not measured."""
        fast()
        slow()
        times = in_turns({"kernels": fast, "runtime": slow}, n).values()
        less, more = (one.wall if options.clock else one.cpu for one in times)
        fastest = f"{min(more) * 1e3:.2f}", f"{min(less) * 1e3:.2f}"
        print(row(what, *fastest, f"{median(more) / median(less):.2f}"), flush=True)

    on_threads = kernels if threads == 1 else kernels.on(threads)
    random = np.random.default_rng(0)
    for batch, tokens in SHAPES:
        ids = random.integers(0, WORDS, (batch, tokens))
        runs = partial(on_threads.run, ids), partial(runtime.run, ids)
        show(f"{batch} x {tokens}", *runs, max(FEWEST, TOKENS // ids.size))
    texts = mixed_texts(TEXTS, seed=0)
    with (
        Embedder.load(options.bundle, threads=threads, kernels="require") as fast,
        Embedder.load(options.bundle, threads=threads, kernels="off") as slow,
    ):
        calls = partial(fast.encode, texts), partial(slow.encode, texts)
        show(f"{TEXTS} texts of many lengths", *calls, CORPUS_ROUNDS)


def show_start(bundle: Path) -> None:
    """Print rows for the time and the memory of new processes."""

    def show(what: str, figures: Sequence[Sequence[float]], digits: int) -> None:
        slow, fast = map(median, figures)
        print(row(what, f"{slow:.{digits}f}", f"{fast:.{digits}f}", f"{slow / fast:.2f}"))

    print(head("", "ONNX Runtime", "kernels", "ratio"))
    started = in_new_processes(bundle, [], PROCESSES)
    show("start to first vector, s", [[one.total for one, _ in runs] for runs in started], 3)
    show("of it loading, s", [[one.loading for one, _ in runs] for runs in started], 3)
    filled = in_new_processes(bundle, many_texts(1000, seed=0), PROCESSES // 3)
    peaks = [[(memory.peak or 0) / 1e6 for _, memory in runs] for runs in filled]
    show("peak of load and 1,000 texts, MB", peaks, 0)


def in_new_processes(
    bundle: Path, texts: Sequence[str], count: int
) -> list[list[tuple[Startup, Memory]]]:
    """Measure `count` processes of each of `ENGINES`, in turns; each also embeds the texts."""

    def measure(use: Use) -> tuple[Startup, Memory]:
        with patch.dict(os.environ, {VARIABLE: use}):
            return measure_process(bundle, texts)

    rounds = [[measure(use) for use in ENGINES] for _ in range(count)]
    return [list(runs) for runs in zip(*rounds, strict=True)]


if __name__ == "__main__":
    main()
