"""Measures the kernels against ONNX Runtime: ``python -m benchmarks.kernels BUNDLE``.

Prints a table of CPU milliseconds, or with ``--clock`` of milliseconds by the clock: of batches by
their shape, texts x tokens, and of a corpus of texts of many lengths. The two engines alternate,
and the figures are the fastest runs and the ratio of the medians. With CPU time a busy machine
disturbs little; on two cores only the clock tells what is gained, and needs a quiet machine.

``--quality FP32_BUNDLE`` prints instead how well both engines do on the sentences of the STS
benchmark: the correlation with the human scores, and the cosines to the vectors in fp32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness.quality import describe_cosines, sts_spearman
from benchmarks.harness.texts import mixed_texts, sentences
from benchmarks.machine.describe import describe_machine
from benchmarks.statistics import median
from embedrt import Embedder
from embedrt.bundle.reader import Bundle
from embedrt.engine.runner import Runner
from embedrt.engine.session import Session
from embedrt.kernels.choose import Use, choose
from embedrt.text.tokenizer import Tokenizer

ENGINES: tuple[Use, ...] = ("off", "require")
SHAPES = ((1, 8), (1, 16), (1, 64), (1, 256), (16, 16), (4, 64), (16, 64), (2, 128))
TOKENS = 6_000  # of each shape, so that short batches are measured often
FEWEST = 7
WORDS = 1000  # ids of tokens are below; every real vocabulary has more
TEXTS = 300  # of the corpus
CORPUS_ROUNDS = 5

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


def show_quality(bundle: Path, reference: Path) -> None:
    """Print a row for each engine."""
    with Embedder.load(reference) as embedder:
        expected = embedder.encode(sentences())
    print("| engine | Spearman | cosine to fp32: mean | first percentile | smallest |")
    print("|---|--:|--:|--:|--:|")
    for use in ENGINES:
        with Embedder.load(bundle, kernels=use) as embedder:
            found = embedder.encode(sentences())
            engine = embedder.stats().engine
        figures = " | ".join(f"{one:.5f}" for one in describe_cosines(found, expected).values())
        print(f"| {engine} | {sts_spearman(found):.2f} | {figures} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--threads", type=int, default=1, help="cores (default: 1)")
    parser.add_argument("--clock", action="store_true", help="measure by the clock")
    parser.add_argument("--quality", type=Path, metavar="FP32_BUNDLE")
    options = parser.parse_args(arguments)
    if options.quality is not None:
        show_quality(options.bundle, options.quality)
        return 0
    threads, clock = options.threads, time.perf_counter if options.clock else time.process_time
    bundle = Bundle.open(options.bundle)
    tokenizer = Tokenizer(bundle.tokenizer, max_tokens=bundle.manifest.max_tokens)
    chosen = choose(bundle, tokenizer.batch_ids, "require").kernels
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
