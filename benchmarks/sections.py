"""The parts of the report that tell of one model: a heading's lines from the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.results import Results, size_of
from benchmarks.rows import Row
from benchmarks.statistics import median, percentile, spread
from benchmarks.tables import (
    Column,
    comparison,
    megabytes,
    milliseconds,
    seconds,
    significant,
    texts_per_second,
)

PARTS = ("python", "import", "load", "first vector")
CURVE = "curve"


def corpus(results: Results, model: str, peers: Sequence[str]) -> list[str]:
    """Texts of mixed lengths in one call."""
    columns = [
        Column("texts/s", "corpus", texts_per_second),
        Column("tokens/s", "corpus", lambda row: significant(row.tokens / median(row.values))),
        Column("seconds", "corpus", seconds),
        Column("middle half", "corpus", lambda row: f"{spread(row.values):.1%} wide"),
    ]
    return comparison(results, model, columns, peers)


def latency(results: Results, model: str, peers: Sequence[str]) -> list[str]:
    """One text in a call, by length."""
    notes = {
        "latency": ("tokens", "Milliseconds, p50 / p95 / p99 of all calls."),
        "spaced": ("tokens", "The same with a pause of 50 ms before each call."),
    }
    return _by_size(results, model, peers, notes, _percentiles)


def batches(results: Results, model: str, peers: Sequence[str]) -> list[str]:
    """A few texts in a call."""
    columns = [
        Column(f"{size_of(workload)} texts", workload, milliseconds)
        for workload in results.workloads("batch", model)
    ]
    note = "Milliseconds a call, median."
    return _with_note(note, comparison(results, model, columns, peers))


def callers(results: Results, model: str, peers: Sequence[str]) -> list[str]:
    """Many threads with one text each."""
    columns = [
        column
        for workload in results.workloads("concurrent", model)
        for column in (
            Column(f"{size_of(workload)} at once: texts/s", workload, texts_per_second),
            Column("p99, ms", workload, _p99, measure="latency"),
        )
    ]
    return comparison(results, model, columns, peers)


def startup(results: Results, model: str, peers: Sequence[str]) -> list[str]:
    """From the start of the process to the first vector."""
    columns = [
        *(Column(part, "startup", seconds, measure=part) for part in ("total", *PARTS)),
        Column("of it compiling", "startup", seconds, measure="compile"),
    ]
    note = "Seconds, median. What the first vector took longer than the second counts as compiling."
    return _with_note(note, comparison(results, model, columns, peers))


def memory(results: Results, model: str, peers: Sequence[str]) -> list[str]:
    """What a process holds."""
    columns = [
        Column(title, "memory", megabytes, measure=measure)
        for title, measure in (
            ("after import", "after import"),
            ("after load", "after load"),
            ("peak, 1,000 texts", "peak 1000 texts"),
            ("after 10,000 texts", "after 10000 texts"),
        )
    ]
    note = "Megabytes that the process holds; 1 MB is 10⁶ bytes."
    return _with_note(note, comparison(results, model, columns, peers))


def size(results: Results, model: str, peers: Sequence[str]) -> list[str]:
    """What lies on the disk."""
    columns = [
        Column("model", "size", megabytes, measure="bundle"),
        Column("installed packages", "size", megabytes, measure="installed"),
    ]
    return _with_note("Megabytes on disk.", comparison(results, model, columns, peers))


def quality(results: Results, model: str, peers: Sequence[str]) -> list[str]:
    """How right the vectors are, and whether they are the same each time."""
    columns = [
        Column("STSb Spearman", "quality/stsb", figure(2), measure="spearman", highest=True),
        Column("SciFact nDCG@10", "quality/scifact", figure(4), measure="ndcg@10", highest=True),
        *(
            Column(
                f"cosine to fp32: {name}", "quality/cosine", figure(4), measure=name, highest=True
            )
            for name in ("mean", "first percentile", "smallest")
        ),
        Column("same bytes", "quality/same bytes", same_bytes, measure="share", highest=True),
    ]
    return comparison(results, model, columns, peers)


def growth(results: Results, model: str, peers: Sequence[str]) -> list[str]:
    """How time grows with texts and with tokens."""
    notes = {
        "growth/texts": ("texts", "Milliseconds a call, by the number of its texts."),
        "growth/tokens": (
            "tokens",
            "Milliseconds a call with 16 texts, by the number of each one's tokens.",
        ),
    }
    return _by_size(results, model, peers, notes, milliseconds)


def _by_size(
    results: Results,
    model: str,
    peers: Sequence[str],
    notes: Mapping[str, tuple[str, str]],
    cell: Callable[[Row], str],
) -> list[str]:
    """Return a table for each kind of work, by what its sizes count, with a note."""
    lines: list[str] = []
    for work, (what, note) in notes.items():
        columns = [
            Column(f"{size_of(workload):,} {what}", workload, cell)
            for workload in results.workloads(work, model)
        ]
        found = _with_note(note, comparison(results, model, columns, peers))
        lines += ["", *found] if lines and found else found
    return lines


def _with_note(note: str, lines: list[str]) -> list[str]:
    """Put a note above a table, if there is one."""
    return [note, "", *lines] if lines else []


def _percentiles(row: Row) -> str:
    return " / ".join(significant(percentile(row.values, p) * 1e3) for p in (0.50, 0.95, 0.99))


def _p99(row: Row) -> str:
    return significant(percentile(row.values, 0.99) * 1e3)


def figure(digits: int) -> Callable[[Row], str]:
    """Return a cell that shows the median with so many decimals."""
    return lambda row: f"{median(row.values):.{digits}f}"


def same_bytes(row: Row) -> str:
    """Whether every text had the same bytes alone and in a batch."""
    share = median(row.values)
    return "yes" if share == 1 else f"no: {share:.1%} of the texts"
