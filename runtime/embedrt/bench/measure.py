"""Measurement of a bundle's speed and memory on this machine.

Results from one machine do not carry over to another, and results from a busy machine are
meaningless. To compare bundles or versions, measure them one after the other on the same idle
machine.
"""

from __future__ import annotations

import math
import statistics
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.bench.footprint import Memory, Startup, measure_process
from embedrt.bench.runs import load, runs_of
from embedrt.bundle.reader import Bundle
from embedrt.engine.cpu import available_threads, processor_name
from embedrt.loaded import LoadedBundle
from embedrt.progress import progress_bar

LENGTHS = (8, 16, 32, 64, 128, 256)
LONGEST = LENGTHS[-1]
SHORTEST = 4
MORE = 2  # tokens of the shortest text, beside special tokens and a query
WARM_UP = 3
PASSAGE = """The harbor was quiet when the first boats came back with the morning's catch. Prices
had fallen again, and nobody at the market expected them to recover before the end of the month.
A woman in a green coat asked whether the ferry to the island still left at noon; the clerk checked
a printed table, then a screen, and said that it depended on the weather. Researchers had measured
the water here for thirty years. Their records show how the temperature rose, slowly at first, and
which species moved north. Some of these data are used in school, where children draw the curves
by hand and learn what an average leaves out.""".split()


@dataclass(frozen=True)
class Plan:
    """The number of calls, texts and repetitions to measure."""

    calls: int = 100
    """Calls with a single text, for each length."""
    texts: int = 256
    """Texts in one repetition of the throughput measurement."""
    repetitions: int = 5
    """Repetitions of the throughput measurement, and of the startup measurement."""
    texts_in_memory: int = 1000
    """Texts to embed before memory is measured."""


QUICK = Plan(calls=20, texts=64, repetitions=2, texts_in_memory=200)


@dataclass(frozen=True)
class Latency:
    """Latency percentiles, in seconds, of calls with one text."""

    tokens: int
    calls: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Throughput:
    """Throughput of a call with many texts of mixed lengths: the median over the repetitions."""

    threads: int
    texts: int
    tokens: int
    texts_per_second: float
    tokens_per_second: float


@dataclass(frozen=True)
class Findings:
    """All results of `measure`."""

    name: str
    precision: str
    processor: str
    threads: int
    versions: dict[str, str]
    latency: tuple[Latency, ...]
    throughput: tuple[Throughput, ...]
    startup: Startup
    """The median of each phase."""
    memory: Memory
    texts_in_memory: int
    """Number of texts embedded before `memory` was measured."""

    def to_json(self) -> dict[str, Any]:
        """Return the results as JSON types, in seconds, bytes, and counts per second."""
        return asdict(self)


def measure(path: str | Path, plan: Plan | None = None, *, progress: bool = False) -> Findings:
    """Measure the bundle at `path`, see `Bundle.open`; raise BundleError if it does not load."""
    plan, bundle = plan or Plan(), Bundle.open(path).path
    counts = thread_counts(available_threads())
    with load(bundle) as loaded:
        manifest = loaded.manifest
        least, most = runs_of(loaded).count(loaded, ""), loaded.max_tokens
        lengths = [n for n in LENGTHS if least < n <= most] or [most]
        steps = len(lengths) + len(counts) + plan.repetitions + 1
        with progress_bar(steps, shown=progress, unit="step") as advance:
            latency = tuple(
                measure_latency(loaded, tokens, plan.calls) for tokens in _each(lengths, advance)
            )
            texts = mixed_texts(loaded, max(plan.texts, plan.texts_in_memory))
            tokens = sum(runs_of(loaded).count(loaded, text) for text in texts[: plan.texts])
            throughput = tuple(
                measure_throughput(bundle, texts[: plan.texts], tokens, threads, plan.repetitions)
                for threads in _each(counts, advance)
            )
            starts = [measure_process(bundle)[0] for _ in _each(range(plan.repetitions), advance)]
            _, memory = measure_process(bundle, texts[: plan.texts_in_memory])
            advance(1)
    return Findings(
        name=manifest.name,
        precision=manifest.precision,
        processor=processor_name(),
        threads=available_threads(),
        versions={name: metadata.version(name) for name in ("embedrt", "onnxruntime", "numpy")},
        latency=latency,
        throughput=throughput,
        startup=_median_startup(starts),
        memory=memory,
        texts_in_memory=plan.texts_in_memory,
    )


def measure_latency(loaded: LoadedBundle, tokens: int, calls: int) -> Latency:
    """Time calls with one text of `tokens` tokens, a different text in each call."""
    texts = [text_of(loaded, tokens, number) for number in range(WARM_UP + calls)]
    run = partial(runs_of(loaded).run_one, loaded)
    seconds = [_seconds(run, text) for text in texts][WARM_UP:]
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99))
    return Latency(tokens, calls, float(p50), float(p95), float(p99))


def measure_throughput(
    bundle: Path, texts: Sequence[str], tokens: int, threads: int, repetitions: int
) -> Throughput:
    """Time calls with all the texts on `threads` threads."""
    with load(bundle, threads) as loaded:
        run = partial(runs_of(loaded).run, loaded)
        run(texts)
        seconds = [_seconds(run, texts) for _ in range(repetitions)]
    median = statistics.median(seconds)
    return Throughput(threads, len(texts), tokens, len(texts) / median, tokens / median)


def thread_counts(available: int) -> list[int]:
    """Return the powers of two below `available`, followed by `available`."""
    return [2**n for n in range(math.ceil(math.log2(available)))] + [available]


def text_of(loaded: LoadedBundle, tokens: int, number: int) -> str:
    """Return a text of `tokens` tokens, or of the most words that stay below that.

    The text begins with `number`, which makes each text unique.
    """
    start = number % len(PASSAGE)
    words = [str(number), *islice(cycle(PASSAGE), start, start + tokens)]
    count = partial(runs_of(loaded).count, loaded)
    fitting = bisect_right(range(len(words)), tokens, key=lambda n: count(" ".join(words[:n])))
    return " ".join(words[: max(0, fitting - 1)])


def mixed_texts(loaded: LoadedBundle, count: int) -> list[str]:
    """Return texts of lengths from `SHORTEST` to `LONGEST`, with more short texts than long ones.

    Lengths are spaced geometrically and shuffled.
    """
    longest = min(LONGEST, loaded.max_tokens)
    shortest = max(SHORTEST, runs_of(loaded).count(loaded, "") + MORE)
    lengths = np.geomspace(min(shortest, longest), longest, count).astype(int)
    np.random.default_rng(0).shuffle(lengths)
    return [text_of(loaded, int(tokens), number) for number, tokens in enumerate(lengths)]


def _each(items: Iterable[int], advance: Callable[[int], object]) -> Iterator[int]:
    """Yield the items, and advance the progress bar after each."""
    for item in items:
        yield item
        advance(1)


def _seconds(run: Callable[[Any], object], texts: str | Sequence[str]) -> float:
    start = time.perf_counter()
    run(texts)
    return time.perf_counter() - start


def _median_startup(starts: Sequence[Startup]) -> Startup:
    return Startup(*(statistics.median(parts) for parts in zip(*map(astuple, starts), strict=True)))
