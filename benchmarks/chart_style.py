"""The style of all charts: legible on white and near-black pages and for color-blind readers.

Backgrounds are transparent. Text and colors have a contrast of at least 3 with both backgrounds.
embedrt's lines are wider than the others, and each line's name is at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import StrMethodFormatter
from matplotlib.transforms import Bbox

from benchmarks import OURS

INK = "#7b818a"
LIGHTER = "#7b818a40"
WIDTH, HEIGHT = 9.0, 5.2  # inches

# Okabe and Ito's palette, with a lightness that works on both backgrounds.
COLORS = {  # by how a name begins
    "embedrt int8 with kernels": "#d6246e",
    "embedrt int8": "#dd5f00",
    "embedrt fp32": "#2080d8",
    "sentence-transformers onnx": "#c06a9c",
    "sentence-transformers": "#009e73",
    "openvino": "#a8860f",
}
OTHER = INK
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")

RC: dict[Any, Any] = {
    "svg.hashsalt": "embedrt",  # the same figures give the same bytes
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # ships with matplotlib, so the same on every machine
    "font.size": 10,
    "grid.color": LIGHTER,
    "grid.linewidth": 0.8,
    **dict.fromkeys(("text.color", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.labelcolor", "axes.titlecolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
}

Point = tuple[float, float]
Side = Literal["left", "right"]

# Candidate positions of a name: its offset in points and its nearer side, nearest first.
PLACES: tuple[tuple[Point, Side], ...] = tuple(
    place
    for step in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 8, -8, 10, -10)
    for reach in (10 + 4 * abs(step),)
    for place in (((reach, 12 * step), "left"), ((-reach, 12 * step), "right"))
)


@dataclass(frozen=True, slots=True)
class Look:
    """How a contender is drawn."""

    color: str
    dash: str
    marker: str
    marker_size: float
    width: float
    above: int
    """Drawing order; embedrt is drawn last."""
    weight: str


def looks(contenders: Sequence[str]) -> dict[str, Look]:
    """Return a look for each contender: a color per family, a dash and a marker per member."""
    found: dict[str, Look] = {}
    seen: dict[str, int] = {}
    for name in contenders:
        color = next((c for family, c in COLORS.items() if name.startswith(family)), OTHER)
        number = seen.get(color, 0) % len(DASHES)
        seen[color] = seen.get(color, 0) + 1
        ours = name in OURS
        found[name] = Look(
            color,
            dash="-" if ours else DASHES[number],
            marker=MARKERS[number],
            marker_size=7.0 if ours else 4.5,
            width=3.0 if ours else 1.5,
            above=4 if ours else 3,
            weight="bold" if ours else "normal",
        )
    return found


def axes_of(title: str, x: str, y: str, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return an empty chart."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def draw_lines(
    axes: Axes,
    lines: Mapping[str, Sequence[Point]],
    styles: Mapping[str, Look],
    *,
    markers: bool = False,
) -> None:
    """Draw a line through the points of each contender."""
    for name, points in lines.items():
        look = styles[name]
        axes.plot(
            *zip(*points, strict=True),
            color=look.color,
            linestyle=look.dash,
            linewidth=look.width,
            marker=look.marker if markers else None,
            markersize=look.marker_size,
            zorder=look.above,
        )


def memory_chart(
    title: str, curves: Mapping[str, Sequence[Point]], styles: Mapping[str, Look]
) -> tuple[Figure, Axes]:
    """Draw resident megabytes against the number of texts embedded."""
    figure, axes = axes_of(title, "texts embedded", "resident megabytes")
    draw_lines(axes, curves, styles)
    axes.set_ylim(0, 1.2 * max(size for points in curves.values() for _, size in points))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure, axes


def name_ends(axes: Axes, lines: Mapping[str, Sequence[Point]], styles: Mapping[str, Look]) -> None:
    """Write each line's name beside its last point, and move overlapping names apart."""
    _root(axes).draw_without_rendering()  # fixes the scale
    ends = {name: points[-1] for name, points in lines.items()}
    right = max(x for x, _ in ends.values())
    scale = axes.transData
    heights = {name: float(scale.transform((right, y))[1]) for name, (_, y) in ends.items()}
    points = axes.figure.dpi / 72
    for name, height in spread_out(heights, 11.5 * points).items():
        offset = 12, (height - float(scale.transform(ends[name])[1])) / points
        _annotate(axes, name, ends[name], offset, styles[name])


def name_points(axes: Axes, points: Mapping[str, Point], styles: Mapping[str, Look]) -> None:
    """Write each point's name near it, where it overlaps no other name or point."""
    figure = _root(axes)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # later changes of the layout would invalidate the positions
    size = 8 * figure.dpi / 72
    pixels = [axes.transData.transform(point) for point in points.values()]
    taken = [Bbox.from_bounds(x - size, y - size, 2 * size, 2 * size) for x, y in pixels]
    inside = axes.get_window_extent()
    for name in sorted(points, key=lambda name: (points[name][0], name)):
        for offset, side in PLACES:
            label = _annotate(axes, name, points[name], offset, styles[name], side)
            label.update_positions(renderer)
            box = Text.get_window_extent(label)  # without the leader line
            fits = all(inside.contains(*corner) for corner in (box.min, box.max))
            free = fits and not box.count_overlaps(taken)
            if free or (offset, side) == PLACES[-1]:
                taken.append(box)
                break
            label.remove()


def spread_out(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Move heights as little as possible so that all are `gap` apart. Keeps their order.

    Neighbors that are too close become a block around their mean; blocks that overlap are merged.
    """
    blocks: list[tuple[list[str], float]] = []
    for name in sorted(heights, key=lambda name: heights[name]):
        block, center = [name], heights[name]
        while blocks and center - blocks[-1][1] < gap * (len(block) + len(blocks[-1][0])) / 2:
            below, _ = blocks.pop()
            block = below + block
            center = sum(heights[other] for other in block) / len(block)
        blocks.append((block, center))
    return {
        name: center + gap * (index - (len(block) - 1) / 2)
        for block, center in blocks
        for index, name in enumerate(block)
    }


def _root(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def _annotate(
    axes: Axes, name: str, point: Point, offset: Point, look: Look, side: Side = "left"
) -> Annotation:
    """Write a name, with a thin line from one of its sides to the point."""
    return axes.annotate(
        name,
        xy=point,
        xytext=offset,
        textcoords="offset points",
        ha=side,
        va="center",
        fontsize=9,
        fontweight=look.weight,
        color=look.color,
        annotation_clip=False,
        arrowprops={
            "arrowstyle": "-",
            "color": look.color,
            "lw": 0.6,
            "shrinkB": 4,
            "relpos": (0 if side == "left" else 1, 0.5),
        },
    )
