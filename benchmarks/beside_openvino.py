"""Compares the native kernels with OpenVINO: ``python -m benchmarks.beside_openvino``.

Embeds all texts of the plan's corpus in one call, on all cores, alternating between embedrt's int8
with and without kernels and OpenVINO in int8 (NNCF) and bf16. Prints a table and, as its last line,
the speedup of the kernels over the faster OpenVINO. The first run installs environments and
prepares the models; ``--rows`` stores the rows, and later runs measure only missing ones.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import MAIN_MODEL, REFERENCE
from benchmarks.harness.catalog import contenders
from benchmarks.harness.plan import full_plan
from benchmarks.harness.run import Run, run_model
from benchmarks.models import MAX_TOKENS
from benchmarks.report.headline import CORPUS, provenance
from benchmarks.report.results import Results, read_results
from benchmarks.report.sections import section

KERNELS = "embedrt int8 with kernels"
OPENVINO = ("openvino int8 (nncf)", "openvino bf16")
MEASURED = (KERNELS, "embedrt int8", *OPENVINO)
TIMEOUT = 900  # seconds for one answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if there is no ratio."""
    parser = argparse.ArgumentParser(prog="benchmarks.beside_openvino", description=__doc__)
    parser.add_argument("--model", choices=MAX_TOKENS, default=MAIN_MODEL)
    parser.add_argument("--rows", type=Path, metavar="ROWS.jsonl", help="append rows to this file")
    options = parser.parse_args(arguments)
    known = contenders()
    plan = [one for one in full_plan(options.model, beir=False) if one.id == CORPUS]
    with tempfile.TemporaryDirectory() as folder:
        rows = options.rows or Path(folder) / "rows.jsonl"
        run = Run({name: known[name] for name in MEASURED}, rows, known[REFERENCE], TIMEOUT)
        run_model(run, options.model, plan)
        results = read_results(rows).of_model(options.model)
    print("\n".join(table(results)))
    return 0 if KERNELS in results.medians(CORPUS) else 1


def table(results: Results) -> list[str]:
    """Return the lines: a table of the contenders, the machine, what failed, and the ratio."""
    lines = [*section(results, "Many texts of mixed lengths", OPENVINO), "", provenance(results)]
    lines += [f"{row.contender} {row.error}" for row in results.failures]
    times = results.medians(CORPUS)
    rivals = [name for name in OPENVINO if name in times]
    if KERNELS in times and rivals:
        best = min(rivals, key=lambda name: times[name])
        times_as_fast = f"{times[best] / times[KERNELS]:.2f} times as fast as {best}"
        lines += ["", f"{KERNELS}: {times_as_fast}"]
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
