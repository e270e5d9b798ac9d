"""Tables of contenders in Markdown: one row a contender, the best peer named below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.results import OURS, SECONDS, Results
from benchmarks.rows import Row
from benchmarks.statistics import median

NOTHING = "-"
FAILED = "failed"


@dataclass(frozen=True)
class Column:
    """What a column shows of each contender."""

    title: str
    workload: str
    cell: Callable[[Row], str]
    measure: str = SECONDS
    highest: bool = False
    """Whether more is better; less is, of seconds and bytes."""


def comparison(
    results: Results, model: str, columns: Sequence[Column], peers: Sequence[str]
) -> list[str]:
    """Return the lines of a table of every contender that has a figure, best first.

    No lines where none has.
    """
    names = [
        name for name in results.contenders if any(_row(results, model, name, c) for c in columns)
    ]
    if not names:
        return []
    names.sort(key=lambda name: _rank(results, model, name, columns[0]))
    body = [
        [_bold(name), *(_cell(results, model, name, column) for column in columns)]
        for name in names
    ]
    best = _best(results, model, columns, peers)
    return table(["", *(column.title for column in columns)], [*body, ["*best peer*", *best]])


def best_of(results: Results, model: str, column: Column, names: Sequence[str]) -> str | None:
    """Return which of these contenders has the best median in a column, if any has one."""
    ranks = {name: _rank(results, model, name, column) for name in names}
    measured = [name for name in names if ranks[name] < math.inf]
    return min(measured, key=lambda name: ranks[name], default=None)


def table(
    header: Sequence[str], body: Iterable[Sequence[str]], *, figures: bool = True
) -> list[str]:
    """Return the lines of a table; figures, in all columns but the first, stand to the right."""
    rules = [":--", *["--:" if figures else ":--"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rules, *body)]


def significant(value: float, digits: int = 3) -> str:
    """Write so many significant digits, never with an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(0, decimals)}f}"


def milliseconds(row: Row) -> str:
    """The median."""
    return significant(median(row.values) * 1e3)


def seconds(row: Row) -> str:
    """The median."""
    return significant(median(row.values))


def megabytes(row: Row) -> str:
    """The median."""
    return significant(median(row.values) / 1e6)


def texts_per_second(row: Row) -> str:
    """The median of the repetitions."""
    return significant(row.texts / median(row.values))


def _best(
    results: Results, model: str, columns: Sequence[Column], peers: Sequence[str]
) -> list[str]:
    """The best peer of each column, told once where columns show the same measure."""
    told = set()
    names = []
    for column in columns:
        key = (column.workload, column.measure)
        names.append("" if key in told else best_of(results, model, column, peers) or NOTHING)
        told.add(key)
    return names


def _bold(name: str) -> str:
    return f"**{name}**" if name in OURS else name


def _row(results: Results, model: str, name: str, column: Column) -> Row | None:
    return results.row(name, column.workload, column.measure, model)


def _cell(results: Results, model: str, name: str, column: Column) -> str:
    row = _row(results, model, name, column)
    if row is None:
        return FAILED if results.failed(name, column.workload, model) else NOTHING
    return column.cell(row)


def _rank(results: Results, model: str, name: str, column: Column) -> float:
    row = _row(results, model, name, column)
    if row is None:
        return math.inf
    return -median(row.values) if column.highest else median(row.values)
