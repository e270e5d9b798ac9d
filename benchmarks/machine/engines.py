"""Measures one batch in each engine: ONNX Runtime, and the kernels if they run the bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine.limits import Limits
from benchmarks.statistics import significant
from benchmarks.timing import Times
from embedrt import Bundle
from embedrt.engine.runner import Kernels, Runner
from embedrt.engine.session import Session
from embedrt.errors import KernelsError
from embedrt.kernels.choose import choose_unloaded

SECONDS = 0.5  # that each engine runs, at least
FEWEST = 5


@dataclass(frozen=True, slots=True)
class EngineRun:
    """The speed of one batch in one engine."""

    engine: str
    seconds: float
    """Time of the fastest run, because the limits are those of the fastest runs too."""
    int8_rate: float
    """Operations of the products in int8 per second of the whole run."""
    limits: Limits
    """The limits of the machine on the same number of threads."""


def kernels_of(bundle: Bundle) -> tuple[Kernels | None, str]:
    """Return the kernels that run a bundle, None if they do not, and why."""
    try:
        choice = choose_unloaded(bundle, "require")
    except KernelsError as error:
        return None, str(error)
    return choice.kernels, choice.why


def measure_engines(
    bundle: Bundle, kernels: Kernels, ids: NDArray[np.int64], int8_work: float, limits: Limits
) -> Iterator[EngineRun]:
    """Run a batch, (batch, tokens), in both engines in turns, on all threads of `limits`.

    `int8_work` are the operations of the products in int8 of one run.
    """
    threads = limits.threads
    runners: tuple[Runner, ...] = (
        Session(bundle.graph, bundle.manifest.precision, threads=threads),
        kernels if threads == 1 else kernels.on(threads),
    )
    found = [Times() for _ in runners]
    for runner in runners:
        runner.run(ids)
    while len(found[0].wall) < FEWEST or min(sum(times.wall) for times in found) < SECONDS:
        for runner, times in zip(runners, found, strict=True):
            times.add(partial(runner.run, ids))
    for runner, times in zip(runners, found, strict=True):
        seconds = min(times.wall)
        yield EngineRun(runner.name, seconds, int8_work / seconds, limits)


def engine_lines(runs: Iterable[EngineRun]) -> Iterator[str]:
    """Yield the lines of a table for human readers."""
    yield f"  {'engine':<24}{'threads':>7}{'ms':>8}{'int8 products':>18}   of the peak"
    for run in runs:
        rate = f"{significant(run.int8_rate / 1e9)} GOP/s"
        yield (
            f"  {run.engine:<24}{run.limits.threads:>7}{run.seconds * 1e3:>8.3f}{rate:>18}   "
            f"{run.int8_rate / run.limits.int8:>5.0%} of {run.limits.of_int8}"
        )
