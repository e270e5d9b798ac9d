"""Rows to a report for people: ``python -m benchmarks.report ROWS.jsonl [SECOND-RUN.jsonl]``.

Nothing is measured: the same rows give the same bytes of ``report.md`` and of its charts. The
figures are the first file's; a second is asked whether its ratios agree.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import sections
from benchmarks.charts import CHARTS, write_charts
from benchmarks.headline import headline
from benchmarks.plan import MAIN_MODEL
from benchmarks.results import Results
from benchmarks.rows import read_rows
from benchmarks.runs import agreement
from benchmarks.tables import table
from benchmarks.targets import Finding, Targets, load_targets

FOLDER = Path(__file__).parent
CHART_FOLDER = "charts"
INTRODUCTION = (
    "Made by `python -m benchmarks.report` from raw rows. [README.md](README.md) tells how they "
    "were measured and what they leave out."
)
ALONE = ["Only one run was given: whether a second agrees is not known."]

Section = Callable[[Results, str, Sequence[str]], list[str]]

# Heading, what is below it, and the chart that belongs to it.
SECTIONS: tuple[tuple[str, Section, str], ...] = (
    ("Many texts of mixed lengths", sections.corpus, ""),
    ("One text", sections.latency, "latency"),
    ("Batches", sections.batches, ""),
    ("Concurrent callers", sections.callers, ""),
    ("Start-up", sections.startup, "startup"),
    ("Memory", sections.memory, "memory"),
    ("How time grows", sections.growth, ""),
    ("Size", sections.size, ""),
    ("Quality", sections.quality, ""),
)


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
    text = report(results, second, load_targets(), drawn)
    path = options.output / "report.md"
    path.write_text(text, encoding="utf-8")
    print(path)


def read_results(path: Path) -> Results:
    """Read the rows of a run; end with a message where there are none."""
    results = Results.of(read_rows(path))
    if not results.rows:
        raise SystemExit(f"{path} has no rows; make bench writes them")
    return results


def report(
    results: Results, second: Results | None, targets: Targets, drawn: Sequence[str] = ()
) -> str:
    """Write the report; `drawn` names the charts that there are."""
    peers = targets.peers(results)
    lines = ["# Benchmarks", "", INTRODUCTION, "", *headline(results, peers)]
    lines += [*_asides(results, targets), *_chart("quality", drawn)]
    lines += ["## Targets", "", *target_table(targets.findings(results)), ""]
    for heading, section, chart in SECTIONS:
        found = section(results, MAIN_MODEL, peers) or ["Not measured."]
        lines += [f"## {heading}", "", *found, "", *_chart(chart, drawn)]
    for model in results.models:
        if model != MAIN_MODEL:
            lines += [f"## {model}", "", "At full size, with random weights.", ""]
            for heading, section, _ in SECTIONS:
                if found := section(results, model, peers):
                    lines += [f"### {heading}", "", *found, ""]
    lines += ["## What failed", "", *failure_table(results), ""]
    lines += [
        "## Whether a second run agrees",
        "",
        *(agreement(results, second) if second else ALONE),
    ]
    lines += ["", "## Versions", "", *_versions(results), ""]
    return "\n".join(lines)


def target_table(findings: Sequence[Finding]) -> list[str]:
    """Return a table of each promise, what was found, and a mark where it is missed."""
    return table(
        ["", "target", "found", "", "held against"],
        [
            [
                finding.target.what,
                finding.target.limit,
                finding.target.figure(finding.value),
                {True: "met", False: "✗ **missed**", None: ""}[finding.met],
                _held_against(finding),
            ]
            for finding in findings
        ],
    )


def failure_table(results: Results) -> list[str]:
    """Return a table of what has no figures and why, a line for each contender and reason."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for row in results.failures:
        where = reasons.setdefault((row.contender, row.model, row.error), [])
        if row.workload not in where:
            where.append(row.workload)
    if not reasons:
        return ["Nothing."]
    return table(
        ["contender", "model", "workloads", "reason"],
        [
            [contender, model, ", ".join(where), _in_a_cell(reason)]
            for (contender, model, reason), where in reasons.items()
        ],
        figures=False,
    )


def _held_against(finding: Finding) -> str:
    missing = f"no figure of {', '.join(finding.missing)}" if finding.missing else ""
    return "; ".join(filter(None, (finding.peer, missing)))


def _asides(results: Results, targets: Targets) -> list[str]:
    """What a reader of the first table must know of contenders that it shows or does not."""
    yardsticks = ", ".join(name for name in targets.yardsticks if name in results.contenders)
    failed = ", ".join(dict.fromkeys(row.contender for row in results.failures))
    lines = []
    if yardsticks:
        lines += [
            f"A measure of what the machine can do, and not counted as a peer: {yardsticks}.",
            "",
        ]
    if failed:
        lines += [
            f"Failed, wholly or in part: {failed}. The reasons are [below](#what-failed).",
            "",
        ]
    return lines


def _chart(name: str, drawn: Sequence[str]) -> list[str]:
    return [f"![{CHARTS[name].alt}]({CHART_FOLDER}/{name}.svg)", ""] if name in drawn else []


def _versions(results: Results) -> list[str]:
    versions = {row.contender: row.versions for row in results.rows}
    return table(
        ["contender", "versions"],
        [
            [name, ", ".join(f"{package} {version}" for package, version in found.items())]
            for name, found in versions.items()
        ],
        figures=False,
    )


def _in_a_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
