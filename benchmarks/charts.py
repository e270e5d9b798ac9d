"""The report's pictures, as SVG: the same rows give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FixedLocator,
    Locator,
    LogLocator,
    NullLocator,
    StrMethodFormatter,
)

from benchmarks.chart_style import INK, RC, axes_of, looks, name_ends, name_points
from benchmarks.plan import MAIN_MODEL
from benchmarks.results import OURS, Results, size_of
from benchmarks.sections import CURVE, PARTS
from benchmarks.statistics import median
from benchmarks.tables import significant

SHADES = (1.0, 0.7, 0.45, 0.25)  # of a contender's color, one for each part of its start
FAR = 3.0  # the longest bar is cut if it is so many times the next: it would hide the others


@dataclass(frozen=True)
class Chart:
    """A picture and what it says to those who cannot see it; no figure where nothing was found."""

    alt: str
    draw: Callable[[Results], Figure | None]


def write_charts(results: Results, folder: Path) -> tuple[str, ...]:
    """Write an SVG for each chart that has something to show; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, chart in CHARTS.items():
        path = folder / f"{name}.svg"
        path.unlink(missing_ok=True)
        with mpl.rc_context(RC):
            figure = chart.draw(results)
            if figure is not None:
                figure.savefig(path, format="svg", metadata={"Date": None})
                drawn.append(name)
    return tuple(drawn)


def draw_quality(results: Results) -> Figure | None:
    """Throughput to the right, quality upward: one point a contender."""
    points = {
        name: (row.texts / median(row.values), quality)
        for name in results.contenders
        if (row := results.row(name, "corpus"))
        and (quality := results.median(name, "quality/stsb", "spearman")) is not None
    }
    if not points:
        return None
    styles = looks(results.contenders)
    figure, axes = axes_of(
        f"Speed and quality, {MAIN_MODEL}: up and to the right is better",
        "texts a second",
        "Spearman correlation on STSb test",
    )
    for name, (x, y) in points.items():
        look = styles[name]
        axes.scatter(
            x, y, s=170 if name in OURS else 70, color=look.color, marker=look.marker,
            zorder=look.above, linewidths=0,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.2)
    _plain_numbers(axes.xaxis, LogLocator(subs=(1, 2, 5)))
    name_points(axes, points, styles)
    return figure


def draw_latency(results: Results) -> Figure | None:
    """Median time of one text by its length, both on logarithmic axes."""
    workloads = results.workloads("latency")
    lines = {
        name: found
        for name in results.contenders
        if (
            found := [
                (size_of(workload), seconds * 1e3)
                for workload in workloads
                if (seconds := results.median(name, workload)) is not None
            ]
        )
    }
    if not lines:
        return None
    styles = looks(results.contenders)
    figure, axes = axes_of(
        f"One text, {MAIN_MODEL}: lower is better", "tokens", "milliseconds, median", height=6
    )
    for name, points in lines.items():
        look = styles[name]
        axes.plot(
            *zip(*points, strict=True), color=look.color, linestyle=look.dash, marker=look.marker,
            linewidth=look.width, markersize=7 if name in OURS else 4.5, zorder=look.above,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_numbers(axes.xaxis, FixedLocator([size_of(workload) for workload in workloads]))
    _plain_numbers(axes.yaxis, LogLocator(subs=(1, 2, 5)))
    figure.draw_without_rendering()
    name_ends(axes, {name: points[-1] for name, points in lines.items()}, styles)
    return figure


def draw_memory(results: Results) -> Figure | None:
    """Resident memory as ever more texts are embedded."""
    rows = {
        name: row
        for name in results.contenders
        if (row := results.row(name, "memory", CURVE)) and len(row.values) > 1
    }
    if not rows:
        return None
    styles = looks(results.contenders)
    figure, axes = axes_of(
        f"Memory while texts of many lengths are embedded, {MAIN_MODEL}",
        "texts embedded",
        "resident megabytes",
    )
    ends = {}
    for name, row in rows.items():
        look = styles[name]
        count = len(row.values)
        texts = [row.texts * (index + 1) / count for index in range(count)]
        sizes = [size / 1e6 for size in row.values]
        axes.plot(
            texts, sizes, color=look.color, linestyle=look.dash, linewidth=look.width,
            zorder=look.above,
        )  # fmt: skip
        ends[name] = (texts[-1], sizes[-1])
    axes.set_ylim(0, 1.2 * max(max(row.values) for row in rows.values()) / 1e6)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    figure.draw_without_rendering()
    name_ends(axes, ends, styles)
    return figure


def draw_startup(results: Results) -> Figure | None:
    """Seconds from the start of a process to its first vector, one bar a contender."""
    totals = {
        name: total
        for name in results.contenders
        if (total := results.median(name, "startup", "total")) is not None
    }
    if not totals:
        return None
    styles = looks(results.contenders)
    names = sorted(totals, key=lambda name: totals[name])
    right = _right_end(list(totals.values()))
    figure, axes = axes_of(
        f"Process start to first vector, {MAIN_MODEL}: shorter is better", "seconds", "",
        height=1.7 + 0.33 * len(names),
    )  # fmt: skip
    for place, name in enumerate(names):
        left = 0.0
        for part, shade in zip(PARTS, SHADES, strict=True):
            width = results.median(name, "startup", part) or 0.0
            axes.barh(place, width, left=left, height=0.66, color=styles[name].color, alpha=shade)
            left += width
        cut = " (the bar is cut)" if totals[name] > right else ""
        axes.annotate(
            f"{significant(totals[name])} s{cut}", (min(left, right), place), (4, 0),
            textcoords="offset points", va="center", ha="left", annotation_clip=False, fontsize=9,
            fontweight=styles[name].weight, color=styles[name].color,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set(color=styles[name].color, fontweight=styles[name].weight)
    axes.invert_yaxis()
    axes.set_xlim(0, right)
    axes.grid(visible=False, axis="y")
    figure.legend(
        handles=[Patch(facecolor=INK, alpha=shade) for shade in SHADES],
        labels=list(PARTS),
        loc="outside lower center",
        ncols=len(PARTS),
        frameon=False,
    )
    return figure


def _plain_numbers(axis: Axis, locator: Locator) -> None:
    """Write the numbers of a logarithmic axis out, and only these."""
    axis.set_major_locator(locator)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _right_end(totals: Sequence[float]) -> float:
    """Where the axis ends: at the longest bar, or at the next where that one is far away."""
    *_, second, longest = [0.0, *sorted(totals)]
    return second if second and longest > FAR * second else longest


CHARTS = {
    "quality": Chart("Throughput of each contender against its quality on STSb", draw_quality),
    "latency": Chart("Time of one text by its length, for each contender", draw_latency),
    "startup": Chart("Time from process start to first vector, by its parts", draw_startup),
    "memory": Chart("Memory of each contender as texts are embedded", draw_memory),
}
