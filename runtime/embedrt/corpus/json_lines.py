"""Reads JSON lines of any length, with unpaired surrogates, and without converting dates.

pyarrow's own reader fails on a line longer than its block size and on an unpaired surrogate, infers
the types of a file from its first block, and converts texts that look like dates.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import json

BLOCK_BYTES = 4 << 20

# An escape of a JSON string: a pair of surrogates, one surrogate, or anything else.
ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def describe_blocks(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield the number of rows and the schema of each block. Strings are never converted."""
    for table in _tables(stream, json.ParseOptions()):
        yield (
            len(table),
            pa.schema([(field.name, _without_dates(field.type)) for field in table.schema]),
        )


def read_blocks(stream: Any, schema: Any) -> Iterator[Any]:
    """Yield the tables of a stream of JSON lines with the columns of `schema` only."""
    return _tables(
        stream, json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    )


def _tables(stream: Any, options: Any) -> Iterator[Any]:
    rows = 0
    for block in _whole_lines(stream):
        try:
            table = json.read_json(
                pa.BufferReader(block),
                read_options=json.ReadOptions(block_size=len(block) + 1, use_threads=False),
                parse_options=options,
            )
        except pa.ArrowInvalid as error:  # its rows are those of the block
            raise pa.ArrowInvalid(f"{error}, counted from row {rows}") from error
        yield table
        rows += len(table)


def _whole_lines(stream: Any) -> Iterator[bytes]:
    """Yield blocks that end at the end of a line, without surrogates that have no partner."""
    rest = bytearray()
    start = True
    while read := stream.read(BLOCK_BYTES):
        if start:
            read, start = read.removeprefix(codecs.BOM_UTF8), False
        end = read.rfind(b"\n") + 1
        if not end:
            rest += read
            continue
        block, rest = bytes(rest + read[:end]), bytearray(read[end:])
        if not block.isspace():
            yield _paired(block)
    if rest and not rest.isspace():
        yield _paired(bytes(rest))


def _paired(block: bytes) -> bytes:
    if not SURROGATE.search(block):
        return block
    return ESCAPES.sub(lambda found: rb"\ufffd" if found["lone"] else found[0], block)


def _without_dates(kind: Any) -> Any:
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_dates(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _without_dates(field.type)) for field in kind])
    return kind
