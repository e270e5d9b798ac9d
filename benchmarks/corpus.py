"""Measures the cost of files: ``python -m benchmarks.corpus BUNDLE``.

The same rows are embedded by one call of `encode` and from Parquet to Parquet, in turns. The speed
of the latter is given as a share of the former. ``--ray`` does the same with a Ray cluster on this
machine. The seconds include the start of the cluster but not its end; another column has the speed
without the start, from when each worker has made a part. ``--peers MODEL`` embeds them with the
process pool of sentence-transformers and the parallel processes of fastembed, which return vectors
and write no files; MODEL is the name of the bundle's original. ``--memory`` embeds once and prints
the private memory of the process at intervals.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness.corpus_peers import Seconds, peers_of
from benchmarks.harness.texts import many_texts
from benchmarks.markdown import head, row
from benchmarks.statistics import median
from benchmarks.timing import in_turns
from embedrt import Embedder
from embedrt.bench.memory import private_bytes
from embedrt.corpus import LocalEngine, embed
from embedrt.engine.cpu import available_threads

ROWS_PER_FILE = 24_000
ROWS_PER_GROUP = 8_000
MEMORY_POINTS = 20


class Taken(NamedTuple):
    """What it took to embed all rows."""

    seconds: float
    steady: float = math.nan
    """Rows per second after each worker has made a part."""
    start: float = math.nan
    """The seconds by which the run is longer than at this rate."""


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
    workers: int | None = None
    """Parts that are made when the start is over; None for an engine without a start."""
    points: list[Point] = field(default_factory=list)

    def run(self, *arguments: Any) -> Iterator[Any]:
        """Run the parts and record the points."""
        rows, start = 0, time.perf_counter()
        for outcome, tokens in self.engine.run(*arguments):
            rows += getattr(outcome, "rows", 0)
            seconds = time.perf_counter() - start
            self.points.append(Point(rows, seconds, (private_bytes() or 0) / 1e6))
            yield outcome, tokens

    def taken(self) -> Taken:
        """Return what the run took."""
        last = self.points[-1]
        if self.workers is None or len(self.points) <= self.workers:
            return Taken(last.seconds)
        first = self.points[self.workers - 1]
        steady = (last.rows - first.rows) / (last.seconds - first.seconds)
        return Taken(last.seconds, steady, last.seconds - last.rows / steady)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one bundle."""
    parser = argparse.ArgumentParser(prog="benchmarks.corpus", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--rows", type=int, default=24_000, metavar="N")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--peers", metavar="MODEL")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_intermixed_args(arguments)
    texts = many_texts(options.rows, seed=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_source(folder / "source", texts)
        if options.memory:
            del texts
            show_memory(options.bundle, folder)
        else:
            peers = peers_of(options.peers) if options.peers else {}
            compare(options, folder, texts, peers)


def write_source(folder: Path, texts: Sequence[str]) -> None:
    """Write the texts to Parquet files."""
    folder.mkdir()
    for start in range(0, len(texts), ROWS_PER_FILE):
        block = texts[start : start + ROWS_PER_FILE]
        table = pa.table({"id": range(start, start + len(block)), "text": block})
        pq.write_table(table, folder / f"{start:09d}.parquet", row_group_size=ROWS_PER_GROUP)


def compare(
    options: argparse.Namespace, folder: Path, texts: Sequence[str], peers: dict[str, Seconds]
) -> None:
    """Print the seconds of each alternative and its share of `encode`'s speed."""

    def encode() -> Taken:
        with Embedder.load(options.bundle) as embedder:
            embedder.encode(texts[:100])
            start = time.perf_counter()
            embedder.encode(texts)
            return Taken(time.perf_counter() - start)

    def files(make: Callable[[], Any], workers: int | None = None) -> Taken:
        timed = Timed(make(), workers)
        with tempfile.TemporaryDirectory(dir=folder) as output:
            embed(folder / "source", Path(output, "out"), bundle=options.bundle, engine=timed)
        return timed.taken()

    def peer(seconds: Seconds) -> Taken:
        return Taken(seconds(texts))

    ways: dict[str, Callable[[], Taken]] = {"encode": encode, "local": partial(files, LocalEngine)}
    if options.ray:
        from embedrt.corpus.on_ray import RayEngine  # noqa: PLC0415 - needs another extra

        ways["ray"] = partial(files, RayEngine, available_threads())
    ways |= {name: partial(peer, seconds) for name, seconds in peers.items()}
    taken: dict[str, list[Taken]] = {name: [] for name in ways}

    def run(name: str) -> None:
        taken[name].append(ways[name]())

    times = in_turns({name: partial(run, name) for name in ways}, options.repetitions)
    print(f"{len(texts):,} rows, median of {options.repetitions} in turns\n")
    print(head("way", "s", "CPU s of this process", "rows/s", "share of encode",
               "after the start", "start s"))  # fmt: skip
    found = {name: Taken(*map(median, zip(*taken[name], strict=True))) for name in ways}
    whole = found["encode"].seconds
    for name, one in found.items():
        numbers = (
            f"{one.seconds:.1f}",
            f"{median(times[name].cpu):.1f}",
            f"{len(texts) / one.seconds:,.0f}",
            f"{whole / one.seconds:.2f}",
            f"{one.steady * whole / len(texts):.2f}",
            f"{one.start:.1f}",
        )
        print(row(name, *numbers).replace("nan", ""))


def show_memory(bundle: Path, folder: Path) -> None:
    """Print the private memory during one run."""
    timed = Timed(LocalEngine())
    embed(folder / "source", folder / "output", bundle=bundle, engine=timed, columns=["id"])
    print(head("rows", "private MB"))
    for point in timed.points[:: max(1, len(timed.points) // MEMORY_POINTS)]:
        print(row(f"{point.rows:,}", f"{point.megabytes:.0f}"))


if __name__ == "__main__":
    main()
