"""One self-contained HTML page with the table and two plots."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from embedrt_export.migration.measure import Migration

BINS = 30
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 260, 60, 40, 16
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 720px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse } td { padding: .15em 1.5em .15em 0; vertical-align: top }
svg { width: 100%; height: auto } rect { fill: #2080d8 } text { font-size: 12px; fill: #7b818a }
line { stroke: #7b818a80 } td:first-child { white-space: nowrap }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #dde } }
"""


def page(migration: Migration) -> str:
    """Return the page."""
    title = f"{migration.original.name} and {migration.bundle.name}"
    worst = [(f"{cosine:.6f}", text) for cosine, text in migration.worst]
    numbers = range(migration.neighbors + 1)
    counts = [int((migration.shared == number).sum()) for number in numbers]
    parts = [
        f"<h1>{escape(title)}</h1>",
        _table(migration.rows()),
        "<h2>Cosine of each text's two vectors</h2>",
        _cosines(migration),
        f"<h2>Neighbors in common, of the top {migration.neighbors}</h2>",
        _bars(counts, [str(number) for number in numbers], "neighbors in common"),
        "<h2>The texts that change most</h2>",
        _table(worst),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


def _cosines(migration: Migration) -> str:
    least = float(migration.cosines.min())
    edges = np.linspace(min(least, 1 - 1e-6), 1, BINS + 1)
    # Rounding takes a cosine above 1.
    counts = np.histogram(np.minimum(migration.cosines, 1), edges)[0]
    labels = [f"{edge:.6g}" if index % 10 == 0 else "" for index, edge in enumerate(edges[:-1])]
    return _bars([int(count) for count in counts], labels, f"cosine, from {edges[0]:.6g} to 1")


def _bars(counts: Sequence[int], labels: Sequence[str], axis: str) -> str:
    """Draw one bar for each count."""
    most = max(*counts, 1)
    middle = (LEFT + WIDTH) / 2
    step = (WIDTH - LEFT) / len(counts)
    floor = HEIGHT - BOTTOM
    shapes = [
        f'<line x1="{LEFT}" y1="{floor}" x2="{WIDTH}" y2="{floor}"/>',
        f'<text x="{LEFT - 6}" y="{TOP + 4}" text-anchor="end">{most:,}</text>',
        f'<text x="{LEFT - 6}" y="{floor}" text-anchor="end">0</text>',
        f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(axis)}</text>',
    ]
    for index, (count, label) in enumerate(zip(counts, labels, strict=True)):
        left, high = LEFT + index * step, (floor - TOP) * count / most
        shapes.append(
            f'<rect x="{left + 1:.1f}" y="{floor - high:.1f}" width="{step - 2:.1f}" '
            f'height="{high:.1f}"><title>{escape(label)} {count:,} texts</title></rect>'
        )
        if label:
            center = f'x="{left + step / 2:.1f}" y="{floor + 16}" text-anchor="middle"'
            shapes.append(f"<text {center}>{label}</text>")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(shapes)}</svg>'
