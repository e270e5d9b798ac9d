"""Measures how near a bundle is to the machine's limits: ``python -m benchmarks.roofline BUNDLE``.

The limits are measured first (see `benchmarks.machine.limits`). The bundle
then runs in the runtime's own session with ONNX Runtime's profiler. Operators that multiply
matrices are compared with the rate of their number type, all others with the memory bandwidth; data
that stays in the caches can exceed that. Where the native kernels run the bundle, it then runs in
both engines in turns, on one thread and on all, and the products in int8 of each are compared with
the peak (see `benchmarks.machine.engines`).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.machine.engines import engine_lines, kernels_of, measure_engines
from benchmarks.machine.limits import Limits, measure_limits
from benchmarks.statistics import significant
from embedrt import Bundle
from embedrt.engine.cpu import available_threads
from embedrt.engine.session import Session

SHAPES = ((1, 16), (1, 256), (16, 64))  # (texts, tokens) of the profiled calls
WARM_UP, RUNS = 3, 10
SMALL = 0.01  # share of the time below which the table groups operators
IN_PLACE = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Identity", "Shape"})
INT8 = frozenset({"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm"})
FP32 = frozenset({"MatMul", "Gemm", "FusedMatMul", "FusedGemm"})
ATTENTION = frozenset({"Attention", "MultiHeadAttention"})
RATES = {"fp32": "GOP/s", "int8": "GOP/s", "memory": "GB/s"}

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Share:
    """All nodes of one operator in one run."""

    operator: str
    nodes: int
    seconds: float
    share: float
    """The share of the time of all nodes."""
    work: float
    """Operations of matrix products, bytes of other operators."""
    limit: str
    """The field of `Limits` for comparison; empty for an operator that copies nothing."""
    reached: float
    """Work per second as a share of that limit."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One run of a bundle, operator by operator."""

    bundle: str
    texts: int
    tokens: int
    threads: int
    seconds: float
    """The time in nodes, the median of the runs."""
    shares: tuple[Share, ...]

    @property
    def int8_work(self) -> float:
        """Operations of the products in int8."""
        return sum(share.work for share in self.shares if share.limit == "int8")

    @property
    def reached(self) -> float:
        """The shortest time that the limits allow, as a share of the measured time."""
        return sum(share.share * min(1.0, share.reached) for share in self.shares)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.roofline", description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    options = parser.parse_intermixed_args(arguments)
    limits = {count: measure_limits(count) for count in sorted({1, available_threads()})}
    for limit in limits.values():
        print(limit)
    for path in options.bundles:
        bundle = Bundle.open(path)
        kernels, why = kernels_of(bundle)
        if kernels is None:
            print(f"ONNX Runtime only: {why}", file=sys.stderr)
        for texts, tokens in SHAPES:
            if tokens > bundle.manifest.max_tokens:
                continue
            # These ids are in every vocabulary.
            ids = np.random.default_rng(0).integers(5, 1000, (texts, tokens), np.int64)
            profile = profile_of(bundle, ids, limits)
            print("", *table(profile), sep="\n", flush=True)
            if kernels is not None:
                work = profile.int8_work
                runs = [measure_engines(bundle, kernels, ids, work, one) for one in limits.values()]
                print(*engine_lines(chain.from_iterable(runs)), sep="\n", flush=True)


def profile_of(bundle: Bundle, ids: NDArray[np.int64], limits: Mapping[int, Limits]) -> Profile:
    """Profile the bundle's graph on a batch, (texts, tokens). `limits` are by number of threads."""
    threads, runs = _profiled_runs(bundle, ids)
    limit = limits.get(threads) or limits[max(limits)]
    microseconds = np.median([sum(event["dur"] for event in run) for run in runs])
    found = tuple(shares(runs, limit))
    seconds, (texts, tokens) = float(microseconds) / 1e6, ids.shape
    return Profile(bundle.path.name, texts, tokens, limit.threads, seconds, found)


def shares(runs: Sequence[Sequence[Event]], limits: Limits) -> Iterator[Share]:
    """Sum the nodes of each operator over all runs. The slowest operator comes first."""
    groups: defaultdict[str, list[Event]] = defaultdict(list)
    for event in (event for run in runs for event in run):
        groups[event["args"]["op_name"]].append(event)
    seconds = {name: sum(e["dur"] for e in group) / 1e6 for name, group in groups.items()}
    for name in sorted(groups, key=lambda name: -seconds[name]):
        works = [work_of(event) for event in groups[name]]
        work, limit = sum(amount for _, amount in works), works[0][0]
        peak = getattr(limits, limit) if limit else math.inf
        yield Share(
            name,
            len(works) // len(runs),
            seconds[name] / len(runs),
            seconds[name] / sum(seconds.values()),
            work / len(runs),
            limit,
            work / seconds[name] / peak if seconds[name] else 0.0,
        )


def work_of(event: Event) -> tuple[str, float]:
    """Return the limit that applies to a node, and its work in operations or bytes."""
    details = event["args"]
    name = details["op_name"]
    inputs = [_shape(one) for one in details["input_type_shape"]]
    if name in ATTENTION:
        # Two products: queries (batch, ..., tokens, size) by keys, and their result by values.
        return "fp32", 4.0 * math.prod(inputs[0]) * inputs[1][-2]
    if name in INT8 or name in FP32:
        # Weights packed at load are not among the inputs.
        output = math.prod(_shape(details["output_type_shape"][0]))
        return ("int8" if name in INT8 else "fp32"), 2.0 * output * inputs[0][-1]
    if name in IN_PLACE:
        return "", 0.0
    written = float(details["output_size"])
    read = written if name == "Gather" else float(details["activation_size"])
    return "memory", read + written


def table(profile: Profile) -> Iterator[str]:
    """Yield the lines of a table for human readers."""
    yield (
        f"{profile.bundle}, {profile.texts} x {profile.tokens} tokens, "
        f"{profile.threads} thread(s): {profile.seconds * 1e3:.2f} ms, "
        f"{profile.reached:.0%} of the limit"
    )
    yield f"  {'operator':<24}{'nodes':>6}{'ms':>9}{'time':>7}{'achieved':>14}   of the limit"
    small = [share for share in profile.shares if share.share < SMALL]
    for share in profile.shares[: len(profile.shares) - len(small)]:
        rate = share.work / share.seconds / 1e9 if share.seconds else 0.0
        achieved = f"{significant(rate)} {RATES[share.limit]}" if share.limit else ""
        against = f"{share.reached:>5.0%} of {share.limit}" if share.limit else ""
        yield _line(share.operator, [share]) + f"{achieved:>14}   {against}"
    if small:
        yield _line(f"{len(small)} others", small)


def _line(name: str, found: Sequence[Share]) -> str:
    nodes, seconds = sum(one.nodes for one in found), sum(one.seconds for one in found)
    part = sum(one.share for one in found)
    return f"  {name:<24}{nodes:>6}{seconds * 1e3:>9.3f}{part:>7.1%}"


def _profiled_runs(bundle: Bundle, input_ids: NDArray[np.int64]) -> tuple[int, list[list[Event]]]:
    """Profile the runtime's own session; return its threads and the nodes of each run."""
    made: list[Any] = []  # the last is the graph's; an earlier one may probe int8 on this processor
    original = ort.InferenceSession

    def profiling(*arguments: Any, sess_options: Any, **keywords: Any) -> Any:
        sess_options.enable_profiling = True
        sess_options.profile_file_prefix = f"{folder}/{len(made)}"
        made.append(original(*arguments, sess_options=sess_options, **keywords))
        return made[-1]

    with tempfile.TemporaryDirectory() as folder:
        with patch.object(ort, "InferenceSession", profiling):
            session = Session(bundle.graph, bundle.manifest.precision)
        for _ in range(WARM_UP + RUNS):
            session.run(input_ids)
        events: list[Event] = json.loads(Path(made[-1].end_profiling()).read_text(encoding="utf-8"))
    threads = int(made[-1].get_session_options().intra_op_num_threads)
    runs: list[list[Event]] = [[]]  # the profiler reports a run at its end
    for event in sorted(events, key=lambda event: event["ts"] + event["dur"]):
        if event.get("cat") == "Node" and "op_name" in event.get("args", {}):
            runs[-1].append(event)
        elif event["name"] == "model_run":
            runs.append([])
    return threads, [run for run in runs if run][WARM_UP:]


def _shape(one: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """Return the sizes in ``{"float": [16, 64]}``."""
    return next(iter(one.values()), [])


if __name__ == "__main__":
    main()
