"""Measures the cost of files: ``python -m benchmarks.corpus BUNDLE``.

The same rows are embedded by one call of `encode` and from Parquet to Parquet, alternating. The
speed of the latter is given as a share of the former: of the whole run, and of the run after its
start, when each worker has made a part. ``--ray`` does the same with a Ray cluster on this machine,
whose start counts, and whose end does not. ``--peers MODEL`` embeds them with the process pool of
sentence-transformers and the parallel processes of fastembed, which return vectors and write no
files; MODEL is the name of the bundle's original. ``--memory`` embeds once and prints the private
memory of the process at intervals.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine.soak import texts_of_all_lengths
from embedrt import Embedder
from embedrt.bench.memory import private_bytes
from embedrt.corpus import LocalEngine, embed
from embedrt.engine.cpu import available_threads

ROWS_PER_FILE = 24_000
ROWS_PER_GROUP = 8_000
MEMORY_POINTS = 20
SHORT = 8  # tokens


@dataclass(frozen=True, slots=True)
class Point:
    """The state of a run after one of its parts."""

    rows: int
    seconds: float
    """From the start of the engine."""
    megabytes: float
    """The private memory of this process."""


@dataclass(frozen=True, slots=True)
class Timed:
    """An engine that records a point after each part."""

    engine: Any
    workers: int = 1
    """Parts that are made at a time."""
    points: list[Point] = field(default_factory=list)

    def run(self, *arguments: Any) -> Iterator[Any]:
        """Run the parts and record the points."""
        rows, start = 0, time.perf_counter()
        for outcome, tokens in self.engine.run(*arguments):
            rows += getattr(outcome, "rows", 0)
            seconds = time.perf_counter() - start
            self.points.append(Point(rows, seconds, (private_bytes() or 0) / 1e6))
            yield outcome, tokens

    def taken(self, cpu: float) -> Taken:
        """Return what the run took, with the CPU seconds of this process."""
        last = self.points[-1]
        if len(self.points) <= self.workers:
            return Taken(last.seconds, cpu)
        first = self.points[self.workers - 1]
        steady = (last.rows - first.rows) / (last.seconds - first.seconds)
        return Taken(last.seconds, cpu, steady, last.seconds - last.rows / steady)


class Taken(NamedTuple):
    """What it took to embed all rows."""

    seconds: float
    cpu: float = math.nan
    """CPU seconds of this process."""
    steady: float = math.nan
    """Rows per second after each worker has made a part."""
    start: float = math.nan
    """The seconds by which the run is longer than at this rate."""


Peers = Mapping[str, Callable[[Sequence[str]], float]]
"""Other libraries by name, as functions of texts to seconds."""


def main(
    arguments: Sequence[str] | None = None,
    peers_of: Callable[[str], Peers] = lambda model: {},  # noqa: ARG005
) -> int:
    """Measure one bundle."""
    parser = argparse.ArgumentParser(prog="benchmarks.corpus", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--rows", type=int, default=24_000, metavar="N")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--peers", metavar="MODEL")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_intermixed_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Embedder.load(options.bundle) as embedder:
            # Memory depends on the number of rows; short ones run faster, so more fit into an hour.
            longest = SHORT if options.memory else embedder.max_tokens
        write_source(folder / "source", options.rows, longest)
        if options.memory:
            show_memory(options.bundle, folder)
        else:
            peers = peers_of(options.peers) if options.peers else {}
            compare(options.bundle, folder, options.repetitions, ray=options.ray, peers=peers)
    return 0


def write_source(folder: Path, rows: int, longest: int) -> None:
    """Write Parquet files with texts of all lengths."""
    folder.mkdir()
    texts = texts_of_all_lengths(longest)
    for start in range(0, rows, ROWS_PER_FILE):
        block = list(islice(texts, min(ROWS_PER_FILE, rows - start)))
        table = pa.table({"id": range(start, start + len(block)), "text": block})
        pq.write_table(table, folder / f"{start:09d}.parquet", row_group_size=ROWS_PER_GROUP)


def compare(bundle: Path, folder: Path, repetitions: int, *, ray: bool, peers: Peers) -> None:
    """Print the seconds of each alternative and its share of `encode`'s speed."""
    texts = pq.read_table(folder / "source").column("text").to_pylist()
    engines: dict[str, Callable[[], Any]] = {"local": LocalEngine}
    if ray:
        from embedrt.corpus.on_ray import RayEngine  # noqa: PLC0415 - needs another extra

        engines["ray"] = RayEngine
    ways: dict[str, list[Taken]] = {name: [] for name in ("encode", *engines, *peers)}
    for turn in range(repetitions):
        with Embedder.load(bundle) as embedder:
            embedder.encode(texts[:100])
            wall, cpu = time.perf_counter(), time.process_time()
            embedder.encode(texts)
            taken = Taken(time.perf_counter() - wall, time.process_time() - cpu)
            ways["encode"].append(taken)
        for name, make in engines.items():
            workers = available_threads() if name == "ray" else 1
            timed, cpu = Timed(make(), workers), time.process_time()
            embed(folder / "source", folder / f"{name}-{turn}", bundle=bundle, engine=timed)
            ways[name].append(timed.taken(time.process_time() - cpu))
        for name, seconds in peers.items():
            ways[name].append(Taken(seconds(texts)))  # in processes of their own
    medians = {
        name: Taken(*map(statistics.median, zip(*found, strict=True)))
        for name, found in ways.items()
    }
    print(f"{len(texts):,} rows, median of {repetitions} in turns\n")
    print(
        "| way | s | CPU s of this process | rows/s | share of encode | after the start | start s |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    whole = medians["encode"].seconds
    for name, taken in medians.items():
        numbers = (
            f"{taken.seconds:.1f}",
            f"{taken.cpu:.1f}",
            f"{len(texts) / taken.seconds:,.0f}",
            f"{whole / taken.seconds:.2f}",
            f"{taken.steady * whole / len(texts):.2f}",
            f"{taken.start:.1f}",
        )
        print("|", name, "|", " | ".join(numbers).replace("nan", ""), "|")


def show_memory(bundle: Path, folder: Path) -> None:
    """Print the private memory during one run."""
    timed = Timed(LocalEngine())
    embed(folder / "source", folder / "output", bundle=bundle, engine=timed, columns=["id"])
    print("| rows | private MB |\n|--:|--:|")
    for point in [*timed.points[:: max(1, len(timed.points) // MEMORY_POINTS)], timed.points[-1]]:
        print(f"| {point.rows:,} | {point.megabytes:.0f} |")
