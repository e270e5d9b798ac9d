"""The columns of a corpus: one schema for all files, or an error that names the differences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedrt.errors import CorpusSourceError

TEXT_TYPES = "a text column must be string, large_string, string_view or a dictionary of them"


def plain_schema(schema: Any, path: str) -> Any:
    """Return a file's schema with types that all readers and writers of Parquet support.

    Dictionaries and run-end encodings become their values, views become plain arrays, and metadata
    is dropped, because it describes another file. Raises CorpusSourceError if two columns have the
    same name.
    """
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise CorpusSourceError(f"{path}: two columns are called {twice[0]!r}; rename one")
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain_type(kind: Any) -> Any:
    """Return the type that a column has after `conform`."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def unify(found: Iterable[tuple[str, Any]], needed: Collection[str] | None = None) -> Any:
    """Return one schema for several files, given as (path, plain schema).

    Columns are null in files that lack them; numbers take the wider type. Raises CorpusSourceError
    naming the file and the column if types cannot be reconciled. With `needed`, other columns may
    have incompatible types.
    """
    whole = pa.schema([])
    for path, schema in found:
        for field in schema:
            if (index := whole.get_field_index(field.name)) < 0:
                whole = whole.append(field)
                continue
            before = whole.field(index)
            try:
                both = _common(before, field)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                if needed is not None and field.name not in needed:
                    continue
                raise CorpusSourceError(
                    f"{path}: column {field.name!r} is {field.type}, and {before.type} in the "
                    "files before it; convert one of them, or leave the column out with --columns"
                ) from error
            whole = whole.set(index, both)
    return whole


def _common(before: Any, field: Any) -> Any:
    (both,) = pa.unify_schemas(
        [pa.schema([before]), pa.schema([field])], promote_options="permissive"
    )
    if both.type == pa.int64() and pa.uint64() in (before.type, field.type):
        raise pa.ArrowTypeError("int64 does not hold what uint64 does")
    return both


def require_parquet(schema: Any) -> None:
    """Raise CorpusSourceError if Parquet has no type for a column."""
    for field in schema:
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
        except pa.ArrowException as error:
            raise CorpusSourceError(
                f"column {field.name!r} is {field.type}, which Parquet cannot hold; choose other "
                "columns with --columns"
            ) from error


def choose_columns(
    schema: Any, text: Sequence[str], columns: Sequence[str] | None, output: str, *, overwrite: bool
) -> Any:
    """Return the schema of the source columns to keep in the output.

    Raises CorpusSourceError if a column is missing, the text columns hold no text, or the source
    already has the output column.
    """
    if not text:
        raise CorpusSourceError("no text column is given; name one with --text")
    for name in (*text, *(columns or ())):
        if name not in schema.names:
            raise CorpusSourceError(f"the source has no column {name!r}; it has {schema.names}")
    for name in text:
        kind = schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.null()):
            raise CorpusSourceError(f"column {name!r} is {kind}; {TEXT_TYPES}")
    carried = [name for name in (schema.names if columns is None else columns) if name != output]
    if output in schema.names and not overwrite:
        raise CorpusSourceError(
            f"the source already has a column {output!r}; name another with --output-column, or "
            "replace it with --overwrite-column"
        )
    fields = [schema.field(name) for name in dict.fromkeys(carried)]
    # Not every reader of Parquet accepts a column of type null.
    return pa.schema(
        [field.with_type(pa.string()) if field.type == pa.null() else field for field in fields]
    )


def conform(table: Any, schema: Any) -> Any:
    """Return the columns of `schema` of a table, null where the table lacks one."""
    arrays = []
    for field in schema:
        index = table.schema.get_field_index(field.name)
        if index < 0:
            arrays.append(pa.nulls(len(table), field.type))
            continue
        column = table.column(index)
        if pa.types.is_run_end_encoded(column.type):
            column = pc.run_end_decode(column)
        if pa.types.is_dictionary(column.type):
            column = _decoded(column)
        arrays.append(column if column.type == field.type else column.cast(field.type))
    return pa.table(arrays, schema=schema) if arrays else table.select([])


def _decoded(column: Any) -> Any:
    """Return the values of a column of dictionaries, with their plain type.

    Without a cast of the column: pyarrow has none for dictionaries of views, which polars writes.
    """
    kind = plain_type(column.type)
    chunks = [chunk.dictionary.cast(kind).take(chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(chunks, kind)
