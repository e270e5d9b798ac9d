"""The report as a Markdown document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import MAIN_MODEL, REFERENCE
from benchmarks.report.charts import CHARTS
from benchmarks.report.headline import headline, provenance
from benchmarks.report.results import SECONDS, Results
from benchmarks.report.sections import SECTIONS, section
from benchmarks.report.tables import table
from benchmarks.report.targets import Finding, Targets

TITLE = "Benchmarks"
CHART_FOLDER = "charts"
AGREEMENT = 0.10  # share by which the ratios of two runs that agree may differ
INTRODUCTION = (
    "Made by `python -m benchmarks.report` from raw rows. [README.md](README.md) explains how they "
    "were measured and what they leave out."
)
ONE_RUN = ["Only one run was given: whether a second agrees is not known."]
MARKS = {True: "met", False: "✗ **missed**", None: ""}


@dataclass(frozen=True, slots=True)
class Pair:
    """The median time of a contender as a multiple of the reference's, in two runs."""

    contender: str
    model: str
    workload: str
    first: float
    second: float

    @property
    def apart(self) -> float:
        """The share by which the larger ratio exceeds the smaller."""
        return max(self.first, self.second) / min(self.first, self.second) - 1


def report(
    results: Results, second: Results | None, targets: Targets, drawn: Sequence[str] = ()
) -> str:
    """Return the text of the report; `drawn` names the charts that exist."""
    peers = targets.peers(results)
    lines = [f"# {TITLE}", "", INTRODUCTION, "", *headline(results, peers)]
    lines += [*_remarks(results, targets), *_charts(TITLE, drawn)]
    lines += ["## Targets", "", *_targets(targets.findings(results)), ""]
    main = results.of_model(MAIN_MODEL)
    for heading in SECTIONS:
        found = section(main, heading, peers) or ["Not measured."]
        lines += [f"## {heading}", "", *found, "", *_charts(heading, drawn)]
    for model in (one for one in results.models if one != MAIN_MODEL):
        lines += [f"## {model}", "", "At full size, with random weights.", ""]
        for heading in SECTIONS:
            if found := section(results.of_model(model), heading, peers):
                lines += [f"### {heading}", "", *found, ""]
    lines += ["## What failed", "", *_failures(results), ""]
    agreeing = agreement(results, second) if second else ONE_RUN
    lines += ["## Whether a second run agrees", "", *agreeing, ""]
    return "\n".join([*lines, "## Versions", "", provenance(results), "", *_versions(results), ""])


def pairs(first: Results, second: Results) -> list[Pair]:
    """Return every ratio of times that both runs have."""
    ratios, others = dict(_ratios(first)), dict(_ratios(second))
    return [Pair(*key, ratios[key], others[key]) for key in ratios if key in others]


def agreement(first: Results, second: Results) -> list[str]:
    """Say whether two runs on one machine agree; list the ratios that differ too much."""
    found = sorted(pairs(first, second), key=lambda pair: -pair.apart)
    if not found:
        return ["The two runs have no ratio in common: nothing can be said."]
    what = f"{len(found)} ratios of times to {REFERENCE}"
    apart = [pair for pair in found if pair.apart > AGREEMENT]
    if not apart:
        limit = f"are within {AGREEMENT:.0%} of each other"
        return [f"Two runs agree: all {what} {limit}, the farthest {found[0].apart:.1%} apart."]
    header = ["contender", "model", "workload", "first run", "second run", "apart"]
    body = [
        [
            *(pair.contender, pair.model, pair.workload),
            *(f"{pair.first:.3f}", f"{pair.second:.3f}", f"{pair.apart:.0%}"),
        ]
        for pair in apart
    ]
    verdict = f"of {what}, {len(apart)} are more than {AGREEMENT:.0%} apart."
    return [f"**Two runs do not agree**: {verdict}", "", *table(header, body)]


def _ratios(results: Results) -> Iterator[tuple[tuple[str, str, str], float]]:
    for model in results.models:
        found = results.of_model(model)
        for workload in found.workloads(""):
            times = found.medians(workload, "total" if workload == "startup" else SECONDS)
            reference = times.pop(REFERENCE, 0.0)
            for name, time in times.items():
                if time and reference:
                    yield (name, model, workload), time / reference


def _targets(findings: Sequence[Finding]) -> list[str]:
    """Return a table of each target, its figure, and a mark if it is missed."""
    body = []
    for finding in findings:
        missing = f"no figure of {', '.join(finding.missing)}" if finding.missing else ""
        against = "; ".join(filter(None, (finding.peer, missing)))
        figure = finding.target.figure(finding.value)
        body.append(
            [finding.target.what, finding.target.limit, figure, MARKS[finding.met], against]
        )
    return table(["", "target", "found", "", "held against"], body)


def _failures(results: Results) -> list[str]:
    """Return a table of failures, with a line for each contender, model and reason."""
    workloads: dict[tuple[str, str, str], dict[str, None]] = {}
    for row in results.failures:
        key = row.contender, row.model, " ".join(row.error.split()).replace("|", "\\|")
        workloads.setdefault(key, {})[row.workload] = None
    if not workloads:
        return ["Nothing."]
    body = [[name, model, ", ".join(ids), why] for (name, model, why), ids in workloads.items()]
    return table(["contender", "model", "workloads", "reason"], body, figures=False)


def _remarks(results: Results, targets: Targets) -> Iterator[str]:
    """Yield remarks on the first table: contenders that do not count as peers, and failures."""
    yardsticks = ", ".join(name for name in targets.yardsticks if name in results.contenders)
    failed = ", ".join(dict.fromkeys(row.contender for row in results.failures))
    if yardsticks:
        yield f"A measure of what the machine can do, and not counted as a peer: {yardsticks}."
        yield ""
    if failed:
        yield f"Failed, wholly or in part: {failed}. The reasons are [below](#what-failed)."
        yield ""


def _charts(heading: str, drawn: Sequence[str]) -> Iterator[str]:
    for name, chart in CHARTS.items():
        if chart.heading == heading and name in drawn:
            yield f"![{chart.alt}]({CHART_FOLDER}/{name}.svg)"
            yield ""


def _versions(results: Results) -> list[str]:
    versions = {row.contender: row.versions for row in results.rows}
    body = [
        [name, ", ".join(f"{package} {version}" for package, version in found.items())]
        for name, found in versions.items()
    ]
    return table(["contender", "versions"], body, figures=False)
