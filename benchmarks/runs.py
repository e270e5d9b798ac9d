"""Whether two runs on one machine tell the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.results import BASELINE, SECONDS, Results
from benchmarks.statistics import AGREEMENT, agree
from benchmarks.tables import table


@dataclass(frozen=True)
class Pair:
    """A contender's median time as a share of the baseline's, in two runs."""

    contender: str
    model: str
    workload: str
    first: float
    second: float

    @property
    def apart(self) -> float:
        """By what share the larger exceeds the smaller."""
        return max(self.first, self.second) / min(self.first, self.second) - 1


def pairs(first: Results, second: Results) -> list[Pair]:
    """Return every ratio of times that both runs have."""
    ratios, others = dict(_ratios(first)), dict(_ratios(second))
    return [Pair(*key, ratios[key], others[key]) for key in ratios if key in others]


def agreement(first: Results, second: Results) -> list[str]:
    """Return the report's lines."""
    found = pairs(first, second)
    if not found:
        return ["The two runs have no ratio in common: nothing can be said."]
    apart = sorted(
        (pair for pair in found if not agree(pair.first, pair.second)), key=lambda pair: -pair.apart
    )
    worst = max(pair.apart for pair in found)
    if not apart:
        verdict = (
            f"Two runs agree: all {len(found)} ratios of times to {BASELINE} are within "
            f"{AGREEMENT:.0%} of each other, the farthest {worst:.1%} apart."
        )
        return [verdict]
    verdict = (
        f"**Two runs do not agree**: of {len(found)} ratios of times to {BASELINE}, "
        f"{len(apart)} are more than {AGREEMENT:.0%} apart."
    )
    return [
        verdict,
        "",
        *table(
            ["contender", "model", "workload", "first run", "second run", "apart"],
            [
                [
                    pair.contender,
                    pair.model,
                    pair.workload,
                    f"{pair.first:.3f}",
                    f"{pair.second:.3f}",
                    f"{pair.apart:.0%}",
                ]
                for pair in apart
            ],
        ),
    ]


def _ratios(results: Results) -> Iterator[tuple[tuple[str, str, str], float]]:
    for row in results.rows:
        if row.contender == BASELINE or (
            row.measure != SECONDS and (row.workload, row.measure) != ("startup", "total")
        ):
            continue
        key = (row.workload, row.measure, row.model)
        ours, baseline = results.median(row.contender, *key), results.median(BASELINE, *key)
        if ours and baseline:
            yield (row.contender, row.model, row.workload), ours / baseline
