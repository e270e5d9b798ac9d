"""The sections of the report for each model: headings, notes, and the columns of their tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from benchmarks.report import tables
from benchmarks.report.results import Results, size_of
from benchmarks.report.tables import Column, comparison

PARTS = ("python", "import", "load", "first vector")
CURVE = "curve"

PERCENTILES = tables.percentiles(0.50, 0.95, 0.99)
P99 = tables.percentiles(0.99)
TWO, FOUR = tables.decimals(2), tables.decimals(4)

# By heading, then by the note above each table. A column whose workload ends with a slash stands
# for one column per size: "8 tokens" for latency/8, "16 tokens" for latency/16, and so on.
SECTIONS: Mapping[str, Mapping[str, Sequence[Column]]] = {
    "Many texts of mixed lengths": {
        "": [
            Column("texts/s", "corpus", tables.texts_per_second),
            Column("tokens/s", "corpus", tables.tokens_per_second),
            Column("seconds", "corpus", tables.seconds),
            Column("middle half", "corpus", tables.middle_half),
        ],
    },
    "One text": {
        "Milliseconds, p50 / p95 / p99 of all calls.": [
            Column("{:,} tokens", "latency/", PERCENTILES)
        ],
        "The same with a pause of 50 ms before each call.": [
            Column("{:,} tokens", "spaced/", PERCENTILES)
        ],
    },
    "Batches": {
        "Milliseconds a call, median.": [Column("{:,} texts", "batch/", tables.milliseconds)],
    },
    "Concurrent callers": {
        "": [
            Column("{:,} at once: texts/s", "concurrent/", tables.texts_per_second),
            Column("p99, ms", "concurrent/", P99, "latency"),
        ],
    },
    "Texts of given lengths": {
        "Seconds of one call, number of texts x tokens. The longest text has a process of its own, "
        "and the memory, in megabytes, is measured above the loaded model.": [
            Column("128 x 50", "short", tables.seconds),
            Column("16 x 400", "medium", tables.seconds),
            Column("1 x 4,096", "long", tables.seconds),
            Column("memory of 1 x 4,096", "long", tables.megabytes, "working memory"),
        ],
    },
    "Start-up": {
        "Seconds, median. The first vector's time beyond the second's counts as compiling.": [
            *(Column(part, "startup", tables.seconds, part) for part in ("total", *PARTS)),
            Column("of it compiling", "startup", tables.seconds, "compile"),
        ],
    },
    "Memory": {
        "Megabytes that the process holds; 1 MB is 10⁶ bytes.": [
            Column("after import", "memory", tables.megabytes, "after import"),
            Column("after load", "memory", tables.megabytes, "after load"),
            Column("peak, 1,000 texts", "memory", tables.megabytes, "peak 1000 texts"),
            Column("after 10,000 texts", "memory", tables.megabytes, "after 10000 texts"),
        ],
    },
    "How time grows": {
        "Milliseconds a call, by the number of its texts.": [
            Column("{:,} texts", "growth/texts/", tables.milliseconds)
        ],
        "Milliseconds a call with 16 texts, by the number of each one's tokens.": [
            Column("{:,} tokens", "growth/tokens/", tables.milliseconds)
        ],
    },
    "Size": {
        "Megabytes on disk.": [
            Column("model", "size", tables.megabytes, "bundle"),
            Column("installed packages", "size", tables.megabytes, "installed"),
        ],
    },
    "Quality": {
        "": [
            Column("STSb Spearman", "quality/stsb", TWO, "spearman", highest=True),
            Column("SciFact nDCG@10", "quality/scifact", FOUR, "ndcg@10", highest=True),
            *(
                Column(f"cosine to fp32: {one}", "quality/cosine", FOUR, one, highest=True)
                for one in ("mean", "first percentile", "smallest")
            ),
            Column("same bytes", "quality/same bytes", tables.same_bytes, "share", highest=True),
        ],
    },
}


def section(results: Results, heading: str, peers: Sequence[str]) -> list[str]:
    """Return the lines below a heading: the notes and tables for which this model has figures."""
    lines: list[str] = []
    for note, columns in SECTIONS[heading].items():
        found = comparison(results, list(_of_sizes(results, columns)), peers)
        if found:
            lines += [*([""] if lines else []), *([note, ""] if note else []), *found]
    return lines


def _of_sizes(results: Results, columns: Sequence[Column]) -> Iterator[Column]:
    for workload, group in groupby(columns, key=lambda column: column.workload):
        family = list(group)
        if not workload.endswith("/"):
            yield from family
            continue
        for sized in results.workloads(workload):
            for column in family:
                title = column.title.format(size_of(sized))
                yield replace(column, title=title, workload=sized)
