"""The figures that people look at first: for the top of the report, and for the README."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks.plan import MAIN_MODEL
from benchmarks.results import BASELINE, OURS, Results
from benchmarks.rows import Row
from benchmarks.sections import figure, same_bytes
from benchmarks.statistics import median
from benchmarks.tables import (
    NOTHING,
    Column,
    comparison,
    megabytes,
    milliseconds,
    seconds,
    significant,
    texts_per_second,
)

CORPUS = "corpus"


def headline(results: Results, peers: Sequence[str]) -> list[str]:
    """Return the lines: a sentence for each of ours, and a table of all contenders."""
    lines = [
        *_sentences(results, peers),
        *comparison(results, MAIN_MODEL, _columns(results), peers),
    ]
    return [*lines, "", provenance(results), ""]


def provenance(results: Results) -> str:
    """Say which machine and commit the figures are of; warn where they are of several."""
    commits = list(dict.fromkeys(row.commit for row in results.rows))
    machines = list(dict.fromkeys(row.machine for row in results.rows))
    told = "; ".join(
        f"{machine.processor}, {machine.cores} cores ({', '.join(machine.instruction_sets)}), "
        f"{machine.memory_bytes / 2**30:.0f} GiB, {machine.platform}"
        for machine in machines
    )
    mixed = " and ".join(
        word for word, found in (("machines", machines), ("commits", commits)) if len(found) > 1
    )
    warning = f"**Rows of several {mixed}: their ratios are not of one run.** " if mixed else ""
    return f"{warning}{told}. Commit {', '.join(commits)}."


def _columns(results: Results) -> list[Column]:
    return [
        Column("texts/s", CORPUS, texts_per_second),
        *(
            Column(
                f"{ours.removeprefix('embedrt ')} is so many times as fast",
                CORPUS,
                _times(results, ours),
            )
            for ours in OURS
        ),
        Column("16 tokens, ms", "latency/16", milliseconds),
        Column("start, s", "startup", seconds, measure="total"),
        Column("peak MB", "memory", megabytes, measure="peak 1000 texts"),
        Column("STSb", "quality/stsb", figure(2), measure="spearman", highest=True),
        Column("same bytes", "quality/same bytes", same_bytes, measure="share", highest=True),
    ]


def _times(results: Results, ours: str) -> Callable[[Row], str]:
    """How many times as fast as a row's contender ours is at the same."""

    def cell(row: Row) -> str:
        mine = results.median(ours, row.workload, row.measure, row.model)
        if mine is None or row.contender == ours:
            return NOTHING
        return f"{median(row.values) / mine:.2f}"

    return cell


def _sentences(results: Results, peers: Sequence[str]) -> Iterator[str]:
    fastest = results.fastest(peers, CORPUS)
    for ours in OURS:
        row = results.row(ours, CORPUS)
        if row is None:
            continue
        compared = [
            f"{median(theirs.values) / median(row.values):.2f} times as fast as {what}"
            for name, what in (
                (BASELINE, BASELINE),
                (None if fastest == BASELINE else fastest, f"the fastest peer, {fastest}"),
            )
            if name and (theirs := results.row(name, CORPUS))
        ]
        yield (
            f"**{ours}** embeds {row.texts:,} texts of mixed lengths at "
            f"{significant(row.texts / median(row.values))} texts a second"
            f"{': ' if compared else ''}{', '.join(compared)}."
        )
        yield ""
