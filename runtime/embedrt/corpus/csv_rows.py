"""Reads CSV, every column as strings.

pyarrow's defaults convert texts to numbers, dates and nulls, end a row at a line break in a text,
and end a text at the end of a truncated file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import csv

BLOCK_BYTES = 32 << 20  # the longest row that can be read


def read_names(stream: Any) -> list[str]:
    """Return the names of the columns, from the first row."""
    names: list[str] = csv.open_csv(stream, **_options()).schema.names
    return names


def describe_blocks(stream: Any, names: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield the number of rows and the schema of each block; raise EOFError if it is cut off."""
    quotes = _Quotes(stream)
    reader = csv.open_csv(pa.PythonFile(quotes, "r"), **_options(names))
    yield 0, reader.schema
    last = None
    for batch in reader:
        yield batch.num_rows, batch.schema
        if batch.num_rows:
            last = batch.columns[-1][-1].as_py()
    quotes.check(last or "")


def read_blocks(stream: Any, names: Sequence[str]) -> Iterator[Any]:
    """Yield the record batches of a stream with these columns only."""
    yield from csv.open_csv(stream, **_options(names))


class _Quotes:
    """Counts the quotes of a stream, because pyarrow ends a text at the end of a truncated file."""

    closed = False

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._count = 0
        self._last = b""

    def read(self, size: int) -> bytes:
        content: bytes = self._stream.read(size)
        self._count += content.count(b'"')
        self._last = content[-1:] or self._last
        return content

    def close(self) -> None:
        self._stream.close()

    def check(self, last: str) -> None:
        """Raise EOFError if the stream ends in a quoted text; `last` is the last text of all.

        A quote inside an unquoted text is legal; the last line is then complete. An unterminated
        text contains the line break at the end of the file.
        """
        if self._count % 2 and (self._last != b"\n" or last.endswith("\n")):
            raise EOFError("it ends inside a quoted text")


def _options(names: Sequence[str] = ()) -> dict[str, Any]:
    """Return options that read every column as strings, with null distinct from ""."""
    return {
        "read_options": csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        "parse_options": csv.ParseOptions(newlines_in_values=True),
        "convert_options": csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(names),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    }
