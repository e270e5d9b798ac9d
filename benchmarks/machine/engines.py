"""Measures one batch in each engine: ONNX Runtime, and the kernels if they run the bundle."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine.limits import Limits
from benchmarks.statistics import significant
from embedrt import Bundle
from embedrt.engine.runner import Kernels, Runner
from embedrt.engine.session import Session
from embedrt.errors import KernelsError
from embedrt.kernels.choose import choose_unloaded

SECONDS = 0.5  # that each engine runs, at least
FEWEST = 5


@dataclass(frozen=True, slots=True)
class EngineRun:
    """A batch in one engine, as a whole."""

    engine: str
    threads: int
    seconds: float
    """Time of the fastest run, because the limits are those of the fastest runs too."""
    int8_rate: float
    """Operations of the products in int8 per second of the whole run."""
    reached: float
    """That rate as a share of the machine's limit of int8 on so many threads."""
    limit: str
    """The operation whose rate that limit is."""


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
    for runner, seconds in zip(runners, map(min, _in_turns(runners, ids)), strict=True):
        rate = int8_work / seconds
        yield EngineRun(runner.name, threads, seconds, rate, rate / limits.int8, limits.of_int8)


def engine_lines(runs: Sequence[EngineRun]) -> Iterator[str]:
    """Yield the lines of a table for human readers."""
    if runs:
        yield f"  {'engine':<24}{'threads':>7}{'ms':>8}{'int8 products':>18}   of the peak"
    for run in runs:
        rate = f"{significant(run.int8_rate / 1e9)} GOP/s"
        yield (
            f"  {run.engine:<24}{run.threads:>7}{run.seconds * 1e3:>8.3f}{rate:>18}   "
            f"{run.reached:>5.0%} of {run.limit}"
        )


def _in_turns(runners: Sequence[Runner], ids: NDArray[np.int64]) -> list[list[float]]:
    """Return the seconds of each run of each runner, after one that is not measured."""
    found: list[list[float]] = [[] for _ in runners]
    for runner in runners:
        runner.run(ids)
    while len(found[0]) < FEWEST or min(map(sum, found)) < SECONDS:
        for runner, seconds in zip(runners, found, strict=True):
            start = time.perf_counter()
            runner.run(ids)
            seconds.append(time.perf_counter() - start)
    return found
