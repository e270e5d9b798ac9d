"""How the charts look: readable on white and on near-black, and by the color-blind.

Backgrounds are transparent. Ink and colors are of middle lightness: each has a contrast of at least
3 to both backgrounds. Ours are told apart by weight and size too, and every line is named where it
ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from benchmarks.results import OURS

INK = "#7b818a"
LIGHTER = "#7b818a40"
WIDTH, HEIGHT = 9.0, 5.2  # inches

# After Okabe and Ito's palette, at a lightness that both backgrounds bear.
COLORS = {
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
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LIGHTER,
    "grid.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


Side = Literal["left", "right"]

# Where a name may stand: points from what it names, and its nearer side; the nearest places first.
PLACES: tuple[tuple[tuple[float, float], Side], ...] = tuple(
    place
    for step in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 8, -8, 10, -10)
    for reach in (10 + 4 * abs(step),)
    for place in (((reach, 12 * step), "left"), ((-reach, 12 * step), "right"))
)


@dataclass(frozen=True)
class Look:
    """How one contender is drawn."""

    color: str
    dash: str
    marker: str
    width: float
    above: int
    """Drawing order: ours last."""
    weight: str


def looks(contenders: Sequence[str]) -> dict[str, Look]:
    """Give each contender its family's color, and within the family its own dash and marker."""
    found: dict[str, Look] = {}
    seen: dict[str, int] = {}
    for name in contenders:
        color = next((c for family, c in COLORS.items() if name.startswith(family)), OTHER)
        number = seen.get(color, 0) % len(DASHES)
        seen[color] = seen.get(color, 0) + 1
        ours = name in OURS
        found[name] = Look(
            color,
            "-" if ours else DASHES[number],
            MARKERS[number],
            3.0 if ours else 1.5,
            4 if ours else 3,
            "bold" if ours else "normal",
        )
    return found


def axes_of(title: str, x: str, y: str, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Make an empty chart."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def name_ends(
    axes: Axes, ends: Mapping[str, tuple[float, float]], styles: Mapping[str, Look]
) -> None:
    """Write each line's name beside its last point (x, y in data), moved apart where they meet."""
    if not ends:
        return
    right = max(x for x, _ in ends.values())
    scale = axes.transData
    heights = {name: float(scale.transform((right, y))[1]) for name, (_, y) in ends.items()}
    points = axes.figure.dpi / 72
    for name, height in spread_out(heights, 11.5 * points).items():
        axes.annotate(
            name,
            xy=ends[name],
            xycoords="data",
            xytext=(12, (height - float(scale.transform(ends[name])[1])) / points),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight=styles[name].weight,
            color=styles[name].color,
            annotation_clip=False,
            arrowprops=_leader(styles[name].color),
        )


def name_points(
    axes: Axes, points: Mapping[str, tuple[float, float]], styles: Mapping[str, Look]
) -> None:
    """Write each point's name near it (x, y in data), where no other name or point is."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # a name must not move what its place was chosen by
    size = 8 * figure.dpi / 72
    pixels = [axes.transData.transform(point) for point in points.values()]
    taken = [Bbox.from_bounds(x - size, y - size, 2 * size, 2 * size) for x, y in pixels]
    inside = axes.get_window_extent()
    for name in sorted(points, key=lambda name: (points[name][0], name)):
        for offset, side in PLACES:
            label = axes.annotate(
                name,
                xy=points[name],
                xytext=offset,
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=9,
                fontweight=styles[name].weight,
                color=styles[name].color,
                arrowprops=_leader(styles[name].color, side),
            )
            label.update_positions(renderer)
            box = Text.get_window_extent(label)  # without the leader line
            if _free(box, taken, inside) or (offset, side) == PLACES[-1]:
                taken.append(box)
                break
            label.remove()


def _free(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> bool:
    return (
        inside.x0 <= box.x0
        and box.x1 <= inside.x1
        and inside.y0 <= box.y0
        and box.y1 <= inside.y1
        and not any(box.overlaps(other) for other in taken)
    )


def _leader(color: str, side: Side = "left") -> dict[str, Any]:
    """A thin line from a side of a name to what it names."""
    start = (0 if side == "left" else 1, 0.5)
    return {"arrowstyle": "-", "color": color, "lw": 0.6, "shrinkB": 4, "relpos": start}


def spread_out(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Move heights as little as it takes for all to be `gap` apart, keeping their order.

    Neighbors that are too close become a block about their mean; blocks that meet become one.
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
