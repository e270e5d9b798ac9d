"""Measures the cost of plans: ``python -m benchmarks.planner [--files N]``.

Plans of synthetic footers, 10**6 to 10**10 rows in N files, are hashed, stored and iterated as a
run does. The rate of reading real footers from this machine's disk is measured, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.markdown import head, row
from embedrt.bench.memory import private_bytes
from embedrt.corpus.folder import Present
from embedrt.corpus.places import find_place
from embedrt.corpus.plan import Plan, PlannedFile, make_plan
from embedrt.corpus.plan_file import load_plan, save_plan
from embedrt.corpus.source import SourceFile

ROWS = (10**6, 10**8, 10**10)
ROWS_PER_GROUP = 100_000
ROWS_PER_PART = (4000, 100_000)  # the default, and a larger one
REAL_FILES = 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.planner", description=__doc__)
    parser.add_argument("--files", type=int, default=100_000, metavar="N")
    options = parser.parse_intermixed_args(arguments)
    print(head("rows", "files", "rows a part", "parts", "plan MB", "stored MB", "store and load s",
               "go through s", "parts/s"))  # fmt: skip
    for rows in ROWS:
        for rows_per_part in ROWS_PER_PART:
            print(measure(rows, min(options.files, rows // 1000), rows_per_part), flush=True)
    print(f"\nfooters read: {footers_per_second():,.0f} files/s from disk, with 16 threads")


def measure(rows: int, files: int, rows_per_part: int) -> str:
    """Measure one plan and return its row of the table."""
    before = private_bytes() or 0
    plan = made_up(rows, files, rows_per_part)
    megabytes = ((private_bytes() or 0) - before) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        place = find_place(folder)
        start = time.perf_counter()
        save_plan(place, plan)
        load_plan(place)
        stored = time.perf_counter() - start
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
    present = Present(parts=frozenset(), merged=())
    start = time.perf_counter()
    plan.digest()
    parts = sum(part not in present for part in plan.parts())
    seconds = time.perf_counter() - start
    counts = (f"{count:,}" for count in (rows, files, rows_per_part, parts))
    costs = (f"{megabytes:.0f}", f"{size:.1f}", f"{stored:.1f}", f"{seconds:.1f}")
    return row(*counts, *costs, f"{parts / seconds:,.0f}")


def made_up(rows: int, files: int, rows_per_part: int) -> Plan:
    """Return a plan for files of equal size that do not exist."""
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    whole, rest = divmod(rows // files, ROWS_PER_GROUP)
    groups = (ROWS_PER_GROUP,) * whole + ((rest,) if rest else ())

    def file(number: int) -> PlannedFile:
        path = f"year=2024/part-{number:06d}.parquet"
        source = SourceFile(
            path=path, format="parquet", size=10**8 + number, modified_ns=10**18 + number
        )
        return PlannedFile(source=source, groups=groups, schema=schema)

    return Plan(files=tuple(map(file, range(files))), rows_per_part=rows_per_part, root="/")


def footers_per_second() -> float:
    """Return how many footers a plan reads per second."""
    with tempfile.TemporaryDirectory() as folder:
        table = pa.table({"id": [1], "text": ["a"]})
        for number in range(REAL_FILES):
            pq.write_table(table, f"{folder}/{number:06d}.parquet")
        start = time.perf_counter()
        make_plan(find_place(folder))
        return REAL_FILES / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
