"""`embed_table`: appends a column of embeddings to a table with a text column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedrt.bundle.reader import Bundle
from embedrt.corpus.arrays import as_array, null_bitmap
from embedrt.corpus.embedding import Embedding, VectorPrecision
from embedrt.corpus.schema import choose_columns, conform, plain_schema
from embedrt.corpus.sparse import as_sparse_column, read_sparse_column, rows_of
from embedrt.embedder import Embedder
from embedrt.errors import TextError
from embedrt.kernels.choose import Use
from embedrt.loaded import LoadOptions
from embedrt.pair import TextKind
from embedrt.request import Embedded
from embedrt.sparse import SparseEncoder
from embedrt.sparse_rows import SparseRows

# If the start of a text, with this many characters per token of the maximum, has twice the maximum
# of tokens, the text is certainly cut.
CERTAIN_CHARACTERS_PER_TOKEN = 12


AnyEncoder = Embedder | SparseEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedRows:
    """The vectors of a table's rows."""

    vectors: NDArray[Any]
    """Zeros where there is no text. Shape: (rows, components); (rows,) of the terms of each row for
    a sparse encoder."""
    valid: NDArray[np.bool_]
    """Whether a row has a text. Shape: (rows,)."""
    texts: list[str]
    """The texts of the valid rows, with their prompt."""
    token_counts: NDArray[np.int32]
    """Tokens of each of these texts, after truncation. Shape: (texts,)."""


def embed_table(
    table: Any,
    embedder: AnyEncoder,
    text: str | Sequence[str] = "text",
    output: str = "embedding",
    *,
    join: str = "\n",
    prompt_name: str | None = None,
    prompt: str | None = None,
    truncate_dim: int | None = None,
    normalize: bool = False,
    precision: VectorPrecision = "float32",
    max_active_dims: int | None = None,
    task: TextKind | None = None,
    overwrite_column: bool = False,
) -> Any:
    """Return a table with a column of embeddings appended.

    Parameters
    ----------
    table
        A ``pyarrow.Table`` or ``RecordBatch``.
    embedder
        An `Embedder` or a `SparseEncoder`.
    text
        The text column, or several, which are joined by `join`; nulls among them are left out.
    output
        The name of the new column.
    prompt_name, prompt, truncate_dim, normalize, precision
        As in `Embedder.encode`.
    max_active_dims, task
        As in `SparseEncoder.encode`; the task also chooses the prompt, unless one is given.
    overwrite_column
        Replace a column that has the output's name, rather than refuse.

    Returns
    -------
    pyarrow.Table
        The new column is a fixed-size list of float32, float16, int8 or uint8. For a sparse encoder
        it is a struct of two lists: ``indices``, int32, and ``values``, float32. Null where all
        text columns are null.

    Raises
    ------
    CorpusSourceError
        A column is missing or holds no text, or the table already has the output column.
    TypeError
        `table` is neither a Table nor a RecordBatch.
    """
    embedding = Embedding.of(
        embedder.manifest,
        text,
        prompt_name=prompt_name,
        prompt=prompt,
        join=join,
        output_column=output,
        truncate_dim=truncate_dim,
        normalize=normalize,
        precision=precision,
        max_active_dims=max_active_dims,
        task=task,
        overwrite_column=overwrite_column,
    )
    if not isinstance(table, pa.Table | pa.RecordBatch):
        raise TypeError(
            f"the table is a {type(table).__name__}, not a pyarrow.Table: in Ray Data, pass "
            'batch_format="pyarrow" to map_batches'
        )
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    schema = plain_schema(table.schema, "the table")
    choose_columns(schema, embedding.text, None, output, overwrite=overwrite_column)
    embedded = embed_texts(texts_of(table, embedding), embedder, embedding)
    kept = table.select([name for name in table.column_names if name != output])
    return kept.append_column(output, as_column(embedded, embedding.type_for(embedder.dimension)))


class EmbedTable:
    """`embed_table` as a callable that loads its bundle once per worker.

    For functions that map over tables: ``map_batches`` of Ray Data, ``map_partitions`` of Dask,
    UDFs of Daft, ``mapInArrow`` of Spark.
    """

    def __init__(
        self,
        bundle: str | Path,
        text: str | Sequence[str] = "text",
        output: str = "embedding",
        *,
        threads: int | None = 1,
        **options: Any,
    ) -> None:
        """Load the bundle. The options are those of `embed_table`."""
        self._embedder = load_encoder(bundle, threads)
        self._columns = text, output
        self._options = options

    def __call__(self, table: Any) -> Any:
        """Return the table with its embeddings."""
        return embed_table(table, self._embedder, *self._columns, **self._options)


def texts_of(table: Any, embedding: Embedding) -> list[str | None]:
    """Return the text of each row; None where all text columns are null."""
    schema = pa.schema([(name, pa.large_string()) for name in embedding.text])
    columns = [column.to_pylist() for column in conform(table, schema).columns]
    if len(columns) == 1:
        texts: list[str | None] = columns[0]
        return texts
    return [_joined(row, embedding) for row in zip(*columns, strict=True)]


def load_encoder(bundle: str | Path, threads: int | None, kernels: Use | None = None) -> AnyEncoder:
    """Load a bundle of embeddings or of a sparse encoder, by its task."""
    opened, options = Bundle.open(bundle), LoadOptions(threads=threads, kernels=kernels)
    sparse = opened.manifest.task == "sparse"
    return SparseEncoder(opened, options) if sparse else Embedder(opened, options)


def embed_texts(
    texts: Sequence[str | None], embedder: AnyEncoder, embedding: Embedding
) -> EmbeddedRows:
    """Embed the texts that are not None. Raises TextError with the index of the row."""
    valid = np.array([text is not None for text in texts], bool)
    present = [text for text in texts if text is not None]
    try:
        found = _embed(present, embedder, embedding)
    except TextError as error:
        row = None if error.index is None else int(np.flatnonzero(valid)[error.index])
        raise error.at(row) from error
    vectors = found.vectors
    if isinstance(vectors, SparseRows):
        vectors = rows_of(vectors, valid)
    elif len(present) < len(texts):
        vectors = np.zeros((len(texts), found.vectors.shape[1]), found.vectors.dtype)
        vectors[valid] = found.vectors
    return EmbeddedRows(
        vectors=vectors,
        valid=valid,
        texts=[embedding.prompt + text for text in present] if embedding.prompt else present,
        token_counts=found.token_counts,
    )


def _embed(texts: list[str], embedder: AnyEncoder, embedding: Embedding) -> Embedded:
    if isinstance(embedder, SparseEncoder):
        return embedder.embed(
            texts,
            prompt=embedding.prompt,
            max_active_dims=embedding.max_active_dims,
            task=embedding.task,
        )
    return embedder.embed(
        texts,
        prompt=embedding.prompt,
        truncate_dim=embedding.truncate_dim,
        normalize_embeddings=embedding.normalize,
        precision=embedding.precision,
    )


def as_column(embedded: EmbeddedRows, kind: Any) -> Any:
    """Return the vectors as an array of type `kind`. Null where there is no text."""
    if pa.types.is_struct(kind):
        return as_sparse_column(embedded.vectors, embedded.valid)
    values, nulls = as_array(embedded.vectors.reshape(-1)), null_bitmap(embedded.valid)
    return pa.Array.from_buffers(kind, len(embedded.valid), [nulls], children=[values])


def read_column(column: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the vectors of a column of embeddings, and a mask of those that are not null.

    Parameters
    ----------
    column
        A pyarrow array or chunked array, as `embed_table` makes it.

    Returns
    -------
    vectors
        Zeros where null. Shape: (rows, components); (rows,) of the terms of each row for a sparse
        encoder.
    valid
        Shape: (rows,).
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # of no chunk
        array = pa.array([], column.type)
    if pa.types.is_struct(column.type):
        return read_sparse_column(array)
    width = column.type.list_size
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    present = array.flatten().to_numpy(zero_copy_only=False)  # without those of null rows
    if valid.all():
        return present.reshape(-1, width), valid
    vectors = np.zeros((len(array), width), present.dtype)
    vectors[valid] = present.reshape(-1, width)
    return vectors, valid


def count_cut(rows: EmbeddedRows, embedder: AnyEncoder) -> int:
    """Return the number of texts with more tokens, or more characters, than the model accepts."""
    counted = zip(rows.texts, rows.token_counts.tolist(), strict=True)
    # Only a text with the maximum number of tokens, or of characters, can have been cut.
    return sum(
        _is_cut(text, embedder)
        for text, count in counted
        if count >= embedder.max_tokens or len(text) > embedder.tokenizer.most_characters
    )


def _is_cut(text: str, embedder: AnyEncoder) -> bool:
    if len(text) > embedder.tokenizer.most_characters:
        return True
    most = embedder.max_tokens
    start = text[: CERTAIN_CHARACTERS_PER_TOKEN * most]
    # The last word of the start can have more tokens than in the whole text.
    certain: bool = len(start) < len(text) and embedder.count_tokens(start) > 2 * most
    return certain or embedder.count_tokens(text) > most


def _joined(row: tuple[str | None, ...], embedding: Embedding) -> str | None:
    present = [text for text in row if text is not None]
    return embedding.join.join(present) if present else None
