"""Markdown tables that compare contenders: a row for each, and a last row with the best peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks import OURS, markdown
from benchmarks.harness.rows import Row
from benchmarks.report.results import SECONDS, Results
from benchmarks.statistics import median, percentile, significant, spread

NOTHING = "-"
FAILED = "failed"

Cell = Callable[[Row], str]
"""Formats a row's figure for a column."""


@dataclass(frozen=True, slots=True)
class Column:
    """The figure that a column shows for each contender."""

    title: str
    workload: str
    cell: Cell
    measure: str = SECONDS
    highest: bool = False
    """Whether higher figures are better, unlike seconds and bytes."""


def comparison(results: Results, columns: Sequence[Column], peers: Sequence[str]) -> list[str]:
    """Return the lines of a table of all contenders with figures, best first; none if none."""
    medians = [results.medians(column.workload, column.measure) for column in columns]
    orders = [
        sorted(found, key=found.__getitem__, reverse=column.highest)
        for column, found in zip(columns, medians, strict=True)
    ]
    names = [name for name in results.contenders if any(name in order for order in orders)]
    if not names:
        return []
    body = [
        [f"**{name}**" if name in OURS else name, *(_text(results, name, c) for c in columns)]
        for name in dict.fromkeys([*orders[0], *names])
    ]
    # The best peer is named once for columns that show the same measure.
    best, measures = ["*best peer*"], set()
    for column, order in zip(columns, orders, strict=True):
        first = next((name for name in order if name in peers), NOTHING)
        best.append("" if (column.workload, column.measure) in measures else first)
        measures.add((column.workload, column.measure))
    return table(["", *(column.title for column in columns)], [*body, best])


def table(
    header: Sequence[str], body: Iterable[Sequence[str]], *, figures: bool = True
) -> list[str]:
    """Return the lines of a table. Figures, in all columns but the first, are right-aligned."""
    first = markdown.head(*header, figures=figures)
    return [*first.splitlines(), *(markdown.row(*cells) for cells in body)]


def scaled(factor: float) -> Cell:
    """Return a cell that shows the median in another unit."""
    return lambda row: significant(median(row.values) * factor)


def decimals(digits: int) -> Cell:
    """Return a cell that shows the median with `digits` decimals."""
    return lambda row: f"{median(row.values):.{digits}f}"


def percentiles(*shares: float) -> Cell:
    """Return a cell that shows percentiles in milliseconds."""
    return lambda row: " / ".join(significant(percentile(row.values, p) * 1e3) for p in shares)


milliseconds, seconds, megabytes = scaled(1e3), scaled(1), scaled(1e-6)


def texts_per_second(row: Row) -> str:
    """Return the texts per second at the median time."""
    return significant(row.texts / median(row.values))


def tokens_per_second(row: Row) -> str:
    """Return the tokens per second at the median time."""
    return significant(row.tokens / median(row.values))


def middle_half(row: Row) -> str:
    """Return the interquartile range as a share of the median."""
    return f"{spread(row.values):.1%} wide"


def same_bytes(row: Row) -> str:
    """Say whether every text has the same bytes alone and in a batch."""
    share = median(row.values)
    return "yes" if share == 1 else f"no: {share:.1%} of the texts"


def _text(results: Results, name: str, column: Column) -> str:
    if row := results.row(name, column.workload, column.measure):
        return column.cell(row)
    failed = ((row.contender, row.workload) for row in results.failures)
    return FAILED if (name, column.workload) in failed else NOTHING
