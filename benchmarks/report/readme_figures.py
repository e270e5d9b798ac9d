"""The figures in the README: ``python -m benchmarks.report.readme_figures ROWS.jsonl [--check]``.

The figures come from the rows and stand between two comments. The rest of the README is unchanged.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.checkout import ROOT
from benchmarks.report.headline import headline
from benchmarks.report.results import Results, read_results
from benchmarks.report.targets import load_targets

BEGIN = "<!-- figures, written by benchmarks/report/readme_figures.py: begin -->"
END = "<!-- figures: end -->"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the figures; with --check, exit with status 1 if they differ from those of the rows."""
    parser = argparse.ArgumentParser(prog="benchmarks.report.readme_figures", description=__doc__)
    parser.add_argument("rows", type=Path, metavar="ROWS.jsonl")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_intermixed_args(arguments)
    before = options.readme.read_text(encoding="utf-8")
    after = with_figures(before, read_results(options.rows))
    if not options.check:
        options.readme.write_text(after, encoding="utf-8")
    elif before != after:
        raise SystemExit(f"{options.readme}: its figures are not those of {options.rows}")


def with_figures(readme: str, results: Results) -> str:
    """Return `readme` with these figures; raise ValueError if it has no place for them."""
    if (readme.count(BEGIN), readme.count(END)) != (1, 1) or readme.find(END) < readme.find(BEGIN):
        raise ValueError(f"expected one place for figures, between\n{BEGIN}\nand\n{END}")
    head, _, rest = readme.partition(BEGIN)
    tail = rest.partition(END)[2]
    figures = "\n".join(headline(results, load_targets().peers(results))).strip()
    return f"{head}{BEGIN}\n\n{figures}\n\n{END}{tail}"


if __name__ == "__main__":
    main()
