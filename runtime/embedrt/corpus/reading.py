"""Reads one source file in bounded memory: its contents, and runs of its rows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from embedrt.corpus import csv_rows, json_lines
from embedrt.corpus.places import Place
from embedrt.corpus.schema import plain_schema, unify
from embedrt.corpus.source import SourceFile
from embedrt.errors import CorpusSourceError

BUFFER_BYTES = 1 << 20
BATCH_ROWS = 4096
IPC_MAGIC = b"ARROW1"

ReadError = (pa.ArrowException, OSError, EOFError, UnicodeDecodeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of a file, from its footer or, if the format has none, from reading it once."""

    groups: tuple[int, ...]
    """Rows of each row group; of the whole file in formats without random access."""
    schema: Any
    """Plain types; see `plain_schema`."""


def describe(place: Place, path: str, file: SourceFile) -> Contents:
    """Return the contents of a file; raise CorpusSourceError naming it if it cannot be read."""
    with _named(file):
        if file.format == "parquet":
            with closing(place.filesystem.open_input_file(path)) as stream:
                footer = _open_parquet(stream)
                groups = [
                    footer.metadata.row_group(i).num_rows for i in range(footer.num_row_groups)
                ]
                schema = footer.schema_arrow
            return Contents(groups=tuple(groups), schema=plain_schema(schema, file.path))
        rows, schemas = 0, dict[Any, None]()
        for count, schema in _described(place, path, file):
            rows += count
            schemas.setdefault(plain_schema(schema, file.path))
        whole = unify((file.path, schema) for schema in schemas)
        return Contents(groups=(rows,), schema=whole)


def read_rows(
    place: Place,
    path: str,
    file: SourceFile,
    schema: Any,
    *,
    groups: Sequence[int],
    windows: Sequence[tuple[int, int]],
) -> Iterator[Any]:
    """Yield the table of each window of rows, in one pass over the required parts of the file.

    Parameters
    ----------
    schema
        The columns to read, of the file's own schema.
    groups
        Rows of each row group; in Parquet, only those that the windows overlap are read.
    windows
        First row and number of rows, ascending and disjoint.

    Raises
    ------
    CorpusSourceError
        The file cannot be read, or has changed since it was planned.
    """
    if not windows:
        return
    wanted, start = range(len(groups)), 0
    if file.format == "parquet":
        starts = list(accumulate(groups, initial=0))
        (first, _), (last, rows) = windows[0], windows[-1]
        # An empty row group starts at the same row as the next one.
        begin = bisect_right(starts, first, hi=len(groups)) - 1
        wanted, start = range(begin, bisect_left(starts, last + rows)), starts[begin]
    with _named(file), closing(_batches(place, path, file, schema, wanted)) as batches:
        yield from _cut_out(batches, start, windows, file)


def _cut_out(
    batches: Iterator[Any], row: int, windows: Sequence[tuple[int, int]], file: SourceFile
) -> Iterator[Any]:
    waiting = iter(windows)
    window = next(waiting, None)
    kept: list[Any] = []
    while window is not None:
        batch = next(batches, None)
        if batch is None:
            raise CorpusSourceError(
                f"{file.path} ends at row {row}, but had more rows when it was planned; embed it "
                "into a new output folder"
            )
        end = row + len(batch)
        while window is not None and window[0] < end:
            first, rows = window
            begin = max(first, row)
            kept.append(batch.slice(begin - row, first + rows - begin))
            if end < first + rows:
                break
            yield pa.concat_tables(kept)
            kept, window = [], next(waiting, None)
        row = end


def _batches(
    place: Place, path: str, file: SourceFile, schema: Any, groups: range
) -> Generator[Any, None, None]:
    """Yield the rows of a file as tables; for Parquet, only of these row groups."""
    with ExitStack() as stack:
        if file.format == "parquet":
            stream = stack.enter_context(closing(place.filesystem.open_input_file(path)))
            for batch in _open_parquet(stream, buffer_size=BUFFER_BYTES).iter_batches(
                batch_size=BATCH_ROWS,
                row_groups=groups,
                columns=schema.names,
                use_threads=False,
            ):
                yield pa.Table.from_batches([batch])
        elif file.format == "arrow":
            reader = stack.enter_context(_open_arrow(place, path))
            for batch in reader:
                yield pa.Table.from_batches([batch]).select(schema.names)
        elif file.format == "jsonl":
            yield from json_lines.read_blocks(stack.enter_context(_open(place, path)), schema)
        else:
            stream = stack.enter_context(_open(place, path))
            for batch in csv_rows.read_blocks(stream, schema.names):
                yield pa.Table.from_batches([batch])


def _described(place: Place, path: str, file: SourceFile) -> Iterator[tuple[int, Any]]:
    """Yield the number of rows and the schema of each block of a file."""
    if file.format == "arrow":
        with _open_arrow(place, path) as reader:
            yield 0, reader.schema
            for batch in reader:
                yield batch.num_rows, batch.schema
    elif file.format == "jsonl":
        with _open(place, path) as stream:
            yield from json_lines.describe_blocks(stream)
    elif file.size:
        with _open(place, path) as stream:
            names = csv_rows.read_names(stream)
        with _open(place, path) as stream:
            yield from csv_rows.describe_blocks(stream, names)


def _open(place: Place, path: str) -> Any:
    """Open a stream, decompressed according to its suffix."""
    return place.filesystem.open_input_stream(path, compression="detect", buffer_size=BUFFER_BYTES)


def _open_parquet(stream: Any, **options: Any) -> Any:
    """Open a Parquet file.

    `pre_buffer` is off, because it would read a whole row group into memory. Spark's timestamps,
    which are INT96, are read as microseconds: nanoseconds cannot represent times before 1678 or
    after 2262.
    """
    return pq.ParquetFile(stream, pre_buffer=False, coerce_int96_timestamp_unit="us", **options)


@contextmanager
def _open_arrow(place: Place, path: str) -> Iterator[Any]:
    """Open an Arrow IPC file or stream, regardless of its suffix; yield its batches."""
    with ExitStack() as stack:
        stream = pa.memory_map(path) if place.is_local else place.filesystem.open_input_file(path)
        stack.enter_context(closing(stream))
        is_file = stream.read(len(IPC_MAGIC)) == IPC_MAGIC
        stream.seek(0)
        if is_file:
            reader = ipc.open_file(stream)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
            yield _Batches(reader.schema, batches)
        else:
            reader = ipc.open_stream(stream)
            yield _Batches(reader.schema, iter(reader))


@dataclass(frozen=True, slots=True)
class _Batches:
    schema: Any
    batches: Iterator[Any]

    def __iter__(self) -> Iterator[Any]:
        return self.batches


@contextmanager
def _named(file: SourceFile) -> Iterator[None]:
    """Add the file's name to errors from reading it."""
    try:
        yield
    except ReadError as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise CorpusSourceError(
            f"{file.path} cannot be read as {file.format} ({first}); repair it, or leave it out "
            "with --on-error skip"
        ) from error
