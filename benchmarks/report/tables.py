"""Tables in Markdown that compare contenders: a row for each, and the best peer in the last."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks import OURS
from benchmarks.report.cells import Cell
from benchmarks.report.results import SECONDS, Results
from benchmarks.statistics import median

NOTHING = "-"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Column:
    """What a column shows of each contender."""

    title: str
    workload: str
    cell: Cell
    measure: str = SECONDS
    highest: bool = False
    """Whether higher is better; of seconds and bytes, lower is."""

    def text(self, results: Results, name: str) -> str:
        """The cell of a contender."""
        if row := results.row(name, self.workload, self.measure):
            return self.cell(row)
        return FAILED if results.failed(name, self.workload) else NOTHING

    def rank(self, results: Results, name: str) -> float:
        """Sort key of a contender: the best has the smallest, infinity is for no figure."""
        row = results.row(name, self.workload, self.measure)
        if row is None:
            return math.inf
        return -median(row.values) if self.highest else median(row.values)

    def best(self, results: Results, names: Sequence[str]) -> str:
        """The best of these contenders, or `NOTHING` if none has a figure."""
        ranks = {name: self.rank(results, name) for name in names}
        best = min(names, key=lambda name: ranks[name], default=NOTHING)
        return best if ranks.get(best, math.inf) < math.inf else NOTHING


def comparison(results: Results, columns: Sequence[Column], peers: Sequence[str]) -> list[str]:
    """Return the lines of a table of every contender that has a figure, the best first.

    There are no lines if none has.
    """
    ranks = {
        name: [column.rank(results, name) for column in columns] for name in results.contenders
    }
    names = [name for name in ranks if min(ranks[name], default=math.inf) < math.inf]
    if not names:
        return []
    body = [
        [f"**{name}**" if name in OURS else name, *(c.text(results, name) for c in columns)]
        for name in sorted(names, key=lambda name: ranks[name][0])
    ]
    best = ["*best peer*"]
    measures: set[tuple[str, str]] = set()
    for column in columns:
        # It is named once for columns that show the same measure.
        key = column.workload, column.measure
        best.append("" if key in measures else column.best(results, peers))
        measures.add(key)
    return table(["", *(column.title for column in columns)], [*body, best])


def table(
    header: Sequence[str], body: Iterable[Sequence[str]], *, figures: bool = True
) -> list[str]:
    """Return the lines of a table. Figures, in all columns but the first, are right-aligned."""
    rules = [":--", *["--:" if figures else ":--"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rules, *body)]
