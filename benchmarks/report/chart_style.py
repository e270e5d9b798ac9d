"""The style of all charts: legible on white and near-black pages and for color-blind readers.

Backgrounds are transparent. Text and colors have a contrast of at least 3 with both backgrounds.
embedrt's lines are wider than the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
}

Point = tuple[float, float]


Look = dict[str, Any]
"""How a contender is drawn: matplotlib's properties of its line."""


def looks(contenders: Sequence[str]) -> dict[str, Look]:
    """Return a look for each contender: a color per family, a dash and a marker per member."""
    found: dict[str, Look] = {}
    seen: Counter[str] = Counter()
    for name in contenders:
        color = next((c for family, c in COLORS.items() if name.startswith(family)), OTHER)
        number, ours = seen[color] % len(DASHES), name in OURS
        seen[color] += 1
        found[name] = {
            "color": color,
            "linestyle": "-" if ours else DASHES[number],
            "marker": MARKERS[number],
            "markersize": 7.0 if ours else 4.5,
            "linewidth": 3.0 if ours else 1.5,
            "zorder": 4 if ours else 3,
        }
    return found


def weight_of(contender: str) -> str:
    """Return the weight of the contender's name."""
    return "bold" if contender in OURS else "normal"


def axes_of(title: str, x: str, y: str, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return an empty chart."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def draw(
    figure: Figure,
    axes: Axes,
    lines: Mapping[str, Sequence[Point]],
    styles: Mapping[str, Look],
    *,
    markers: bool = True,
) -> None:
    """Draw a line or a single point for each contender; the legend is in the order of the ends."""
    for name in sorted(lines, key=lambda name: -lines[name][-1][1]):
        changes = {} if markers else {"marker": ""}
        if len(lines[name]) == 1:
            changes["linestyle"] = ""
        axes.plot(*zip(*lines[name], strict=True), label=name, **styles[name] | changes)
    legend = figure.legend(loc="outside right center", labelcolor="linecolor", fontsize=9)
    for text in legend.get_texts():
        text.set_fontweight(weight_of(text.get_text()))
