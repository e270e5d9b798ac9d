"""The most important figures: the top of the report, and the table in the project's README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import MAIN_MODEL, OURS, REFERENCE
from benchmarks.harness.rows import Row
from benchmarks.report import tables
from benchmarks.report.results import Results
from benchmarks.report.tables import NOTHING, Column, comparison
from benchmarks.statistics import median

CORPUS = "corpus"


def headline(results: Results, peers: Sequence[str]) -> list[str]:
    """Return the lines: a sentence for each of `OURS`, a table of all contenders, the machine."""
    main = results.of_model(MAIN_MODEL)
    columns = [
        Column("texts/s", CORPUS, tables.texts_per_second),
        *(_speedup(main, name) for name in OURS if name in main.medians(CORPUS)),
        Column("16 tokens, ms", "latency/16", tables.milliseconds),
        Column("start, s", "startup", tables.seconds, "total"),
        Column("peak MB", "memory", tables.megabytes, "peak 1000 texts"),
        Column("STSb", "quality/stsb", tables.decimals(2), "spearman", highest=True),
        Column("same bytes", "quality/same bytes", tables.same_bytes, "share", highest=True),
    ]
    table = comparison(main, columns, peers)
    shown = {column.workload for column in columns}
    rows = Results(tuple(row for row in main.rows if row.workload in shown))
    return [*_sentences(main, peers), *table, "", provenance(rows), ""]


def _speedup(results: Results, ours: str) -> Column:
    """Return a column with the speedup of `ours` over each contender."""
    mine = results.medians(CORPUS)[ours]

    def cell(row: Row) -> str:
        if row.contender == ours:
            return NOTHING
        return f"{median(row.values) / mine:.2f}"

    return Column(f"speedup of {ours.removeprefix('embedrt ')}", CORPUS, cell)


def _sentences(results: Results, peers: Sequence[str]) -> Iterator[str]:
    times = results.medians(CORPUS)
    rivals = {REFERENCE: REFERENCE} if REFERENCE in times else {}
    if measured := [name for name in peers if name in times]:
        fastest = min(measured, key=lambda name: times[name])
        rivals.setdefault(fastest, f"the fastest peer, {fastest}")
    for ours in OURS:
        row = results.row(ours, CORPUS)
        if row is None:
            continue
        compared = ", ".join(
            f"{times[name] / times[ours]:.2f} times as fast as {what}"
            for name, what in rivals.items()
        )
        speed = (
            f"{row.texts:,} texts of mixed lengths at {tables.texts_per_second(row)} texts a second"
        )
        yield f"**{ours}** embeds {speed}{': ' if compared else ''}{compared}."
        yield ""


def provenance(results: Results) -> str:
    """Return the machine and the commit of the rows, with a warning if there are several."""
    commits = list(dict.fromkeys(row.commit for row in results.rows))
    machines = list(dict.fromkeys(row.machine for row in results.rows))
    described = "; ".join(
        f"{machine.processor}, {machine.cores} cores ({', '.join(machine.instruction_sets)}), "
        f"{machine.memory_bytes / 2**30:.0f} GiB, {machine.platform}"
        for machine in machines
    )
    mixed = " and ".join(
        word for word, found in (("machines", machines), ("commits", commits)) if len(found) > 1
    )
    warning = f"**Rows of several {mixed}: their ratios are not of one run.** " if mixed else ""
    return f"{warning}{described}. Commit {', '.join(commits)}."
