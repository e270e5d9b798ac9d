"""Measures the cost of files: ``python -m benchmarks.corpus BUNDLE``.

The same rows are embedded by one call of `encode` and from Parquet to Parquet, in turns. The speed
of the latter is given as a share of the former. ``--ray`` does the same with a Ray cluster on this
machine, not counting its start and end. ``--peers MODEL`` embeds them with the process pool of
sentence-transformers and the parallel processes of fastembed, which return vectors and write no
files; MODEL is the name of the bundle's original. ``--memory`` embeds once and prints the private
memory of the process at intervals.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness.corpus_peers import Seconds, peers_of
from benchmarks.harness.texts import many_texts
from benchmarks.statistics import median
from embedrt import Embedder
from embedrt.bench.memory import private_bytes
from embedrt.corpus import LocalEngine, embed

ROWS_PER_FILE = 24_000
ROWS_PER_GROUP = 8_000
MEMORY_POINTS = 20


@dataclass(slots=True)
class Timed:
    """An engine that measures the seconds from its first part to its last."""

    engine: Any
    seconds: float = 0.0
    memory: list[tuple[int, float]] = field(default_factory=list)
    """The number of rows and the memory in megabytes after each part."""

    def run(self, *arguments: Any) -> Iterator[Any]:
        """Run the parts and record time and memory."""
        rows, start = 0, time.perf_counter()
        for outcome, tokens in self.engine.run(*arguments):
            self.seconds = time.perf_counter() - start
            rows += getattr(outcome, "rows", 0)
            self.memory.append((rows, (private_bytes() or 0) / 1e6))
            yield outcome, tokens


def main(arguments: Sequence[str] | None = None) -> int:
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
    return 0


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

    def encode(texts: Sequence[str]) -> float:
        with Embedder.load(options.bundle) as embedder:
            embedder.encode(texts[:100])
            start = time.perf_counter()
            embedder.encode(texts)
            return time.perf_counter() - start

    def files(make: Callable[[], Any]) -> Seconds:
        def seconds(_: Sequence[str]) -> float:
            timed = Timed(make())
            with tempfile.TemporaryDirectory(dir=folder) as output:
                embed(folder / "source", Path(output, "out"), bundle=options.bundle, engine=timed)
            return timed.seconds

        return seconds

    ways: dict[str, Seconds] = {"encode": encode, "local": files(LocalEngine)}
    if options.ray:
        from embedrt.corpus.on_ray import RayEngine  # noqa: PLC0415 - needs another extra

        ways["ray"] = files(RayEngine)
    ways |= peers
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repetitions):
        for name, way in ways.items():
            before = time.process_time()
            wall[name].append(way(texts))
            cpu[name].append(time.process_time() - before)
    print(f"{len(texts):,} rows, median of {options.repetitions} in turns\n")
    print("| way | s | CPU s of this process | rows/s | share of encode |")
    print("|---|--:|--:|--:|--:|")
    for name in ways:
        seconds = median(wall[name])
        print(
            f"| {name} | {seconds:.1f} | {median(cpu[name]):.1f} "
            f"| {len(texts) / seconds:,.0f} | {median(wall['encode']) / seconds:.2f} |"
        )


def show_memory(bundle: Path, folder: Path) -> None:
    """Print the private memory during one run."""
    timed = Timed(LocalEngine())
    embed(folder / "source", folder / "output", bundle=bundle, engine=timed, columns=["id"])
    print("| rows | private MB |\n|--:|--:|")
    for rows, megabytes in timed.memory[:: max(1, len(timed.memory) // MEMORY_POINTS)]:
        print(f"| {rows:,} | {megabytes:.0f} |")


if __name__ == "__main__":
    raise SystemExit(main())
