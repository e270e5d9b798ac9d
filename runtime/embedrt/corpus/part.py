"""The work on one part: reading its rows, embedding them, writing its file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from embedrt.corpus.arrays import text_scalar
from embedrt.corpus.computing import engine_of
from embedrt.corpus.digest import digest_rows, spell_digest
from embedrt.corpus.output import PartFacts, parquet_buffer, with_facts, write_file
from embedrt.corpus.plan import Part, Plan, PlannedFile
from embedrt.corpus.reading import read_rows
from embedrt.corpus.schema import conform
from embedrt.corpus.table import AnyEncoder, as_column, count_cut, embed_texts, texts_of
from embedrt.corpus.work import Work, columns_to_read
from embedrt.engine.cpu import processor_name
from embedrt.errors import CorpusOutputError, CorpusSourceError, TextError


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Parts of one file that are read in one pass, in the order of their rows."""

    file: PlannedFile
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A part, or a whole file, that could not be embedded."""

    source: str
    """The source file's path."""
    first: int
    """The number of the first row in that file."""
    rows: int
    reason: str
    is_source: bool
    """Whether the source is the cause, so that another attempt would fail too."""


Outcome = PartFacts | Failure


def runs(plan: Plan, wanted: Iterator[Part], most: int | None) -> Iterator[Run]:
    """Group consecutive wanted parts of a file into runs of at most `most` parts."""
    group: list[Part] = []
    for part in wanted:
        if group and (part.file != group[0].file or len(group) == most):
            yield Run(file=plan.files[group[0].file], parts=tuple(group))
            group = []
        group.append(part)
    if group:
        yield Run(file=plan.files[group[0].file], parts=tuple(group))


def read_run(work: Work, run: Run) -> Iterator[tuple[Part, Any]]:
    """Yield each part with its table, or with the CorpusSourceError from reading it."""
    source = run.file.source
    waiting = list(run.parts)
    tables = read_rows(
        work.source,
        f"{work.root}/{source.path}",
        source,
        columns_to_read(work, run.file.schema),
        groups=run.file.groups,
        windows=[(part.first, part.rows) for part in run.parts],
    )
    try:
        for table in tables:
            yield waiting.pop(0), with_partitions(table, work.partitions, run.file)
    except CorpusSourceError as error:
        if len(run.parts) > 1 and source.format == "parquet":  # other row groups may be whole
            for part in waiting:
                yield from read_run(work, Run(file=run.file, parts=(part,)))
        else:
            for part in waiting:
                yield part, error


def make_part(
    work: Work,
    run: Run,
    part: Part,
    table: Any,
    embedder: AnyEncoder,
    turn: AbstractContextManager[Any] | None = None,
) -> Outcome:
    """Embed and write one part. Holds `turn` while vectors are computed.

    Raises CorpusOutputError if the output cannot be written; any other failure is returned.
    """
    path = run.file.source.path
    if isinstance(table, Exception):
        return failed(run, part, table)
    try:
        texts = texts_of(table, work.embedding)
        with turn or nullcontext():
            embedded = embed_texts(texts, embedder, work.embedding)
        column = as_column(embedded, work.embedding.type_for(work.dimension))
        whole = conform(table, work.carried).append_column(work.embedding.output_column, column)
        facts = PartFacts(
            name=part.name,
            source=path,
            first=part.first,
            rows=part.rows,
            nulls=part.rows - len(embedded.texts),
            cut=count_cut(embedded, embedder),
            digest=spell_digest(digest_rows(path, part.first, embedded.vectors, embedded.valid)),
            identity=work.identity,
            processor=processor_name(),
            engine=engine_of(embedder),
        )
        content = parquet_buffer(
            with_facts(whole, facts), work.embedding.output_column, work.embedding.text
        )
    except Exception as error:  # noqa: BLE001 - the other parts continue
        return failed(run, part, error)
    try:
        write_file(work.output, part.name, content)
    except OSError as error:
        raise CorpusOutputError(
            f"{work.output.join(part.name)} cannot be written ({error}); files written so far "
            "remain: run the same command again to continue"
        ) from error
    return facts


def failed(run: Run, part: Part, error: BaseException) -> Failure:
    """Return the failure of a part."""
    place = f"rows {part.first} to {part.first + part.rows - 1}"
    reason = str(error) or type(error).__name__
    if isinstance(error, TextError) and error.index is not None:
        place, reason = f"row {part.first + error.index}", f"the text {error.complaint}"
    return Failure(
        source=run.file.source.path,
        first=part.first,
        rows=part.rows,
        reason=f"{run.file.source.path}, {place}: {reason}",
        is_source=isinstance(error, CorpusSourceError | TextError | pa.ArrowInvalid),
    )


def with_partitions(table: Any, schema: Any, file: PlannedFile) -> Any:
    """Append the partition columns that the file lacks, from the names of its folders."""
    values = dict(file.source.keys)
    for field in schema:
        if field.name not in file.schema.names:
            value = text_scalar(values.get(field.name)).cast(field.type)
            table = table.append_column(field, pa.repeat(value, len(table)))
    return table
