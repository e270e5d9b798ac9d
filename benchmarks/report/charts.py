"""The charts of the report, as SVG: the same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib import ticker
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks import MAIN_MODEL
from benchmarks.report import chart_style as style
from benchmarks.report.results import Results, size_of
from benchmarks.report.sections import CURVE, PARTS
from benchmarks.statistics import median, significant

SHADES = (1.0, 0.7, 0.45, 0.25)  # of a contender's color, one for each part of the start-up
FAR = 3.0  # a longest bar this many times the next is cut, because it would dwarf the others


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, drawn from the results of one model."""

    heading: str
    """The section of the report that shows the chart."""
    alt: str
    """The text alternative of the image."""
    draw: Callable[[Results], Figure | None]
    """Returns None if there is nothing to show."""


def write_charts(results: Results, folder: Path) -> tuple[str, ...]:
    """Write an SVG for each chart of the main model that has figures; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, chart in CHARTS.items():
        path = folder / f"{name}.svg"
        path.unlink(missing_ok=True)
        with mpl.rc_context(style.RC):
            figure = chart.draw(results.of_model(MAIN_MODEL))
            if figure is not None:
                figure.savefig(path, format="svg", metadata={"Date": None})
                drawn.append(name)
    return tuple(drawn)


def draw_quality(results: Results) -> Figure | None:
    """Draw throughput against quality, one point per contender."""
    points = {
        name: [(row.texts / median(row.values), quality)]
        for name, quality in results.medians("quality/stsb", "spearman").items()
        if (row := results.row(name, "corpus"))
    }
    if not points:
        return None
    figure, axes = style.axes_of(
        f"Speed and quality, {MAIN_MODEL}: up and to the right is better",
        "texts a second",
        "Spearman correlation on STSb test",
    )
    style.draw(figure, axes, points, style.looks(results.contenders))
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.2)
    _plain_numbers(axes.xaxis, ticker.LogLocator(subs=(1, 2, 5)))
    return figure


def draw_latency(results: Results) -> Figure | None:
    """Draw the median latency of one text against its length, on logarithmic axes."""
    workloads = results.workloads("latency/")
    lines: dict[str, list[style.Point]] = {}
    for workload in workloads:
        for name, time in results.medians(workload).items():
            lines.setdefault(name, []).append((size_of(workload), time * 1e3))
    if not lines:
        return None
    figure, axes = style.axes_of(
        f"One text, {MAIN_MODEL}: lower is better", "tokens", "milliseconds, median", height=6
    )
    style.draw(figure, axes, lines, style.looks(results.contenders))
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_numbers(axes.xaxis, ticker.FixedLocator([size_of(workload) for workload in workloads]))
    _plain_numbers(axes.yaxis, ticker.LogLocator(subs=(1, 2, 5)))
    return figure


def draw_memory(results: Results) -> Figure | None:
    """Draw the resident memory while texts are embedded."""
    curves = {}
    for name in results.contenders:
        row = results.row(name, "memory", CURVE)
        if row and (count := len(row.values)) > 1:
            texts = [row.texts * (index + 1) / count for index in range(count)]
            curves[name] = [(x, size / 1e6) for x, size in zip(texts, row.values, strict=True)]
    if not curves:
        return None
    figure, axes = style.axes_of(
        f"Memory while texts of many lengths are embedded, {MAIN_MODEL}",
        "texts embedded",
        "resident megabytes",
    )
    style.draw(figure, axes, curves, style.looks(results.contenders), markers=False)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    return figure


def draw_startup(results: Results) -> Figure | None:
    """Draw the seconds from the start of a process to its first vector, one bar per contender."""
    totals = results.medians("startup", "total")
    if not totals:
        return None
    parts = {part: results.medians("startup", part) for part in PARTS}
    styles = style.looks(results.contenders)
    names = sorted(totals, key=lambda name: totals[name])
    right = right_end(list(totals.values()))
    figure, axes = style.axes_of(
        f"Process start to first vector, {MAIN_MODEL}: shorter is better", "seconds", "",
        height=1.7 + 0.33 * len(names),
    )  # fmt: skip
    for place, name in enumerate(names):
        left = 0.0
        for widths, shade in zip(parts.values(), SHADES, strict=True):
            width = widths.get(name, 0.0)
            axes.barh(
                place, width, left=left, height=0.66, color=styles[name]["color"], alpha=shade
            )
            left += width
        cut = " (the bar is cut)" if totals[name] > right else ""
        axes.annotate(
            f"{significant(totals[name])} s{cut}", (min(left, right), place), (4, 0),
            textcoords="offset points", va="center", ha="left", annotation_clip=False, fontsize=9,
            fontweight=style.weight_of(name), color=styles[name]["color"],
        )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set(color=styles[name]["color"], fontweight=style.weight_of(name))
    axes.invert_yaxis()
    axes.set_xlim(0, right)
    axes.grid(visible=False, axis="y")
    figure.legend(
        handles=[Patch(facecolor=style.INK, alpha=shade) for shade in SHADES],
        labels=list(PARTS),
        loc="outside lower center",
        ncols=len(PARTS),
    )
    return figure


def right_end(totals: Sequence[float]) -> float:
    """Return where the axis of bars ends: at the longest, or at the next if that is far shorter."""
    *_, second, longest = [0.0, *sorted(totals)]
    return second if second and longest > FAR * second else longest


def _plain_numbers(axis: Axis, locator: ticker.Locator) -> None:
    """Label a logarithmic axis with plain numbers, only at the locator's positions."""
    axis.set_major_locator(locator)
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))


CHARTS = {
    "quality": Chart(
        "Benchmarks", "Throughput of each contender against its quality on STSb", draw_quality
    ),
    "latency": Chart(
        "One text", "Time of one text by its length, for each contender", draw_latency
    ),
    "startup": Chart(
        "Start-up", "Time from process start to first vector, by its parts", draw_startup
    ),
    "memory": Chart("Memory", "Memory of each contender as texts are embedded", draw_memory),
}
