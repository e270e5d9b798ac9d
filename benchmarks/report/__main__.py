"""Write a report from rows: ``python -m benchmarks.report ROWS.jsonl [SECOND-RUN.jsonl]``.

The same rows give the same bytes of ``report.md`` and of its charts. The figures are those of the
first file; the report says whether the ratios of the second file agree.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.checkout import FOLDER
from benchmarks.report.charts import write_charts
from benchmarks.report.document import CHART_FOLDER, report
from benchmarks.report.results import read_results
from benchmarks.report.targets import load_targets


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report and its charts."""
    parser = argparse.ArgumentParser(prog="benchmarks.report", description=__doc__)
    parser.add_argument("rows", type=Path, metavar="ROWS.jsonl")
    parser.add_argument("second", type=Path, nargs="?", metavar="SECOND-RUN.jsonl")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER")
    options = parser.parse_intermixed_args(arguments)
    results = read_results(options.rows)
    second = read_results(options.second) if options.second else None
    options.output.mkdir(parents=True, exist_ok=True)
    drawn = write_charts(results, options.output / CHART_FOLDER)
    path = options.output / "report.md"
    path.write_text(report(results, second, load_targets(), drawn), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
