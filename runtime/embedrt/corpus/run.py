"""`embed`: embeds a corpus into a folder of vectors, and resumes interrupted runs.

    source -> plan -> the parts that are missing -> engine -> parts written -> _SUCCESS

The output folder is the only state: a run that was killed at any moment is continued by running it
again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal, Protocol, get_args

from embedrt.arguments import check_at_least, check_choice
from embedrt.bundle.reader import Bundle
from embedrt.corpus import folder
from embedrt.corpus.embedding import VectorPrecision
from embedrt.corpus.local import LocalEngine
from embedrt.corpus.output import PartFacts
from embedrt.corpus.part import Outcome
from embedrt.corpus.places import find_place
from embedrt.corpus.plan import ROWS_PER_PART, Part, Plan
from embedrt.corpus.prepare import Job, prepare
from embedrt.corpus.report import Report
from embedrt.corpus.totals import Totals
from embedrt.corpus.watch import watching
from embedrt.corpus.work import Work
from embedrt.errors import CorpusError, CorpusSourceError, EmbedrtError
from embedrt.pair import TextKind

OnError = Literal["fail", "skip"]
MOST_FAILURES = 20  # of parts whose source is in order: more are the machine's or the output's


class Engine(Protocol):
    """Decides where parts are made."""

    def run(
        self, work: Work, plan: Plan, wanted: Iterator[Part], stop: Event
    ) -> Iterator[tuple[Outcome, int]]:
        """Yield each wanted part's outcome, with the number of tokens computed since the previous.

        After `stop` is set, yield those of the parts in flight and end.
        """
        ...


def embed(
    source: str | Path,
    output: str | Path,
    *,
    bundle: str | Path,
    text: str | Sequence[str] = "text",
    engine: Literal["local", "ray"] | Engine = "local",
    join: str = "\n",
    prompt_name: str | None = None,
    prompt: str | None = None,
    truncate_dim: int | None = None,
    normalize: bool = False,
    precision: VectorPrecision = "float32",
    max_active_dims: int | None = None,
    task: TextKind | None = None,
    columns: Sequence[str] | None = None,
    output_column: str = "embedding",
    overwrite_column: bool = False,
    rows_per_part: int = ROWS_PER_PART,
    on_error: OnError = "fail",
    merge_mb: float | None = None,
    source_filesystem: Any = None,
    output_filesystem: Any = None,
    show_progress_bar: bool = False,
    stop: Event | None = None,
) -> Report:
    """Embed all rows of a source into a folder of Parquet files, or continue an earlier run.

    Parameters
    ----------
    source
        A file, a folder, or a URI of Parquet, Arrow, JSON lines or CSV; see `find_place`.
    output
        A new or empty folder, or the output of an earlier run of the same job.
    bundle
        The bundle's folder.
    text
        The text column, or several, joined by `join`.
    engine
        ``"local"``: this process. ``"ray"``: a Ray cluster on this machine. To set options, pass a
        `LocalEngine` or a `RayEngine`.
    prompt_name, prompt, truncate_dim, normalize, precision
        As in `Embedder.encode`.
    max_active_dims, task
        As in `SparseEncoder.encode`; the task also chooses the prompt, unless one is given.
    columns
        The source columns to keep in the output; by default all.
    output_column, overwrite_column
        The name of the new column, and whether it replaces one of that name.
    rows_per_part
        Upper limit of the rows in a part, which is the unit of resuming.
    on_error
        What to do with a file that cannot be read, or a text that cannot be embedded: ``"fail"``
        raises; ``"skip"`` embeds the rest, and the report lists the failures.
    merge_mb
        Merge the parts into files of about this many megabytes at the end.
    source_filesystem, output_filesystem
        pyarrow or fsspec file systems in which `source` and `output` are paths.
    stop
        Ends the run after the parts in flight once it is set.

    Returns
    -------
    Report
        Check `complete`: an interrupted run, or one with failures, is not.

    Raises
    ------
    CorpusSourceError
        The source cannot be read or lacks a column.
    CorpusOutputError
        The output belongs to another job, or cannot be written.
    BundleError
        The bundle cannot be read.
    KernelsError
        `EMBEDRT_KERNELS` requires kernels, and they cannot run the bundle.
    """
    check_choice("on_error", on_error, get_args(OnError))
    check_at_least("merge_mb", merge_mb, 1e-6, "or None")
    started = time.monotonic()
    chosen = _engine(engine)
    job = prepare(
        find_place(source, source_filesystem),
        find_place(output, output_filesystem),
        Bundle.open(bundle),
        text=text,
        columns=columns,
        rows_per_part=rows_per_part,
        skip_unreadable=on_error == "skip",
        join=join,
        prompt_name=prompt_name,
        prompt=prompt,
        truncate_dim=truncate_dim,
        normalize=normalize,
        precision=precision,
        max_active_dims=max_active_dims,
        task=task,
        output_column=output_column,
        overwrite_column=overwrite_column,
    )
    made = _make_missing(job, chosen, stop or Event(), on_error=on_error, bar=show_progress_bar)
    totals, digest = made.totals, None
    if made.parts_left == 0 and not made.failures:
        totals = folder.mark_complete(job.work, job.plan, job.present, made.totals)
        digest = totals.digest
        if merge_mb is not None:
            folder.merge(job.work, job.plan, totals, megabytes=merge_mb)
    return Report(
        output=job.work.output.given,
        rows=job.plan.rows,
        rows_done=made.rows_there + made.totals.rows,
        rows_run=made.totals.rows,
        nulls=totals.nulls,
        cut=totals.cut,
        parts=made.parts_there + made.totals.parts + made.parts_left,
        parts_run=made.totals.parts,
        tokens=made.tokens,
        seconds=time.monotonic() - started,
        files=len(job.plan.files),
        skipped=job.plan.skipped,
        failures=tuple(made.failures),
        interrupted=made.parts_left > 0 and not made.failures,
        digest=digest,
        processors=totals.processors,
        engines=totals.engines,
    )


@dataclass(slots=True)
class _Made:
    """The results of a run."""

    totals: Totals
    failures: list[str]
    rows_there: int
    parts_there: int
    parts_left: int
    tokens: int = 0


def _make_missing(job: Job, engine: Engine, stop: Event, *, on_error: OnError, bar: bool) -> _Made:
    """Make the parts that are missing; raise the first error that ends the run."""
    parts, rows, missing, missing_rows = 0, 0, 0, 0
    for part in job.plan.parts():
        parts, rows = parts + 1, rows + part.rows
        if part not in job.present:
            missing, missing_rows = missing + 1, missing_rows + part.rows
    made = _Made(
        totals=Totals(),
        failures=[str(file.error) for file in job.plan.unreadable],
        rows_there=rows - missing_rows,
        parts_there=parts - missing,
        parts_left=missing,
    )
    if not missing:
        return made
    folder.mark_incomplete(job.work.output)
    fatal: EmbedrtError | None = None
    others = 0
    with watching(rows, made.rows_there, bar=bar) as advance:
        wanted = (part for part in job.plan.parts() if part not in job.present)
        for outcome, tokens in engine.run(job.work, job.plan, wanted, stop):
            made.tokens += tokens
            if isinstance(outcome, PartFacts):
                made.totals.add_part(outcome)
                made.parts_left -= 1
                advance(outcome.rows, tokens)
                continue
            made.failures.append(outcome.reason)
            others += not outcome.is_source
            if outcome.is_source and on_error == "fail":
                fatal = fatal or CorpusSourceError(outcome.reason)
            elif others > MOST_FAILURES:
                fatal = fatal or CorpusError(
                    f"{others} parts failed, the last one: {outcome.reason}"
                )
            if fatal is not None:
                stop.set()
    if fatal is not None:
        raise fatal
    return made


def _engine(given: str | Engine) -> Engine:
    if given == "local":
        return LocalEngine()
    if given == "ray":
        from embedrt.corpus.on_ray import RayEngine  # noqa: PLC0415 - needs another extra

        return RayEngine()
    if isinstance(given, str):
        raise ValueError(  # noqa: TRY004 - the type is right
            f"engine={given!r}; expected 'local', 'ray' or an Engine"
        )
    return given
