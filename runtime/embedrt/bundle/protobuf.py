"""A minimal reader and writer of Protobuf's wire format.

Fields are represented as byte ranges and their content is not copied, so a tensor of a gigabyte is
skipped at no cost. Field numbers are those of ``onnx.proto`` in ONNX 1.23.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_SPARSE = 1, 5, 11, 12, 15
NODE_INPUT, NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_INT = 1, 3
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
TENSOR_DIMENSIONS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, TENSOR_COMMENT = 1, 2, 8, 9, 12
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2
VALUE_NAME = 1

# Limits memory use: a crafted file can consist of millions of empty fields. Real graphs have fewer.
_MOST_FIELDS = 100_000
_LARGEST_KEY = 2**32 - 1  # protobuf ignores higher bits, and would read a different field number

Data = bytes | mmap.mmap


class Span(NamedTuple):
    """A byte range of the file: a message, or the value of a field."""

    start: int
    stop: int
    kind: int = BYTES

    @property
    def size(self) -> int:
        """In bytes."""
        return self.stop - self.start


Field = tuple[int, Span]


def read_fields(data: Data, message: Span) -> Iterator[Field]:
    """Yield the number and value of each field of a message; raise ValueError if malformed."""
    position = message.start
    for _ in range(_MOST_FIELDS):
        if position >= message.stop:
            return
        key, position = read_varint(data, position)
        if key > _LARGEST_KEY:
            raise ValueError(f"a field number of more than 29 bits at byte {position}")
        if key < 8:
            raise ValueError(f"field number 0 before byte {position}")
        kind = key & 7
        if kind == VARINT:
            _, stop = read_varint(data, position)
        elif kind == BYTES:
            length, position = read_varint(data, position)
            stop = position + length
        elif kind in (FIXED64, FIXED32):
            stop = position + (8 if kind == FIXED64 else 4)
        else:
            raise ValueError(f"wire type {kind} at byte {position}")
        if stop > message.stop:
            raise ValueError(f"a field ends at byte {stop} of {message.stop}")
        yield key >> 3, Span(position, stop, kind)
        position = stop
    if position < message.stop:
        raise ValueError(f"more than {_MOST_FIELDS} fields in one message")


class Messages:
    """A file, and the fields of its messages, each of which is read once.

    A crafted file of more fields than real graphs have is read again, and takes no more memory.
    """

    def __init__(self, data: Data) -> None:
        self.data = data
        self._fields: dict[Span, list[Field]] = {}
        self._left = _MOST_FIELDS

    def fields(self, message: Span) -> list[Field]:
        """Return the number and value of each field of a message; raise ValueError if malformed."""
        found = self._fields.get(message)
        if found is None:
            found = list(read_fields(self.data, message))
            self._left -= len(found) + 1
            if self._left >= 0:
                self._fields[message] = found
        return found


def read_varint(data: Data, position: int) -> tuple[int, int]:
    """Return the number at `position`, below 2**70, and the position after it."""
    if data[position] < 0x80:  # most have one byte
        return data[position], position + 1
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at byte {position}")


def find_graph(data: Data) -> tuple[Span, list[Field]]:
    """Return the graph of a model, and the model's fields; raise ValueError unless it has one."""
    fields = list(read_fields(data, Span(0, len(data))))
    graphs = [span for number, span in fields if number == MODEL_GRAPH]
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} graphs in it")
    return graphs[0], fields


def text_of(data: Data, message: Iterable[Field], field: int) -> str:
    """Return the text of a field, or ``""`` if it is absent; a repeated field's last value counts.

    This is how protobuf parses a field that is not declared as repeated.
    """
    found = ""
    for number, span in message:
        if number == field and span.kind == BYTES:  # protobuf skips other wire types
            found = data[span.start : span.stop].decode()
    return found


def number_of(data: Data, message: Iterable[Field], field: int) -> int:
    """Return the number in a field, or 0 if it is absent; negative numbers appear as 2**63 or more.

    The last value of a repeated field counts.
    """
    found = 0
    for number, span in message:
        if number == field and span.kind == VARINT:
            found, _ = read_varint(data, span.start)
    return found


def varint(number: int) -> bytes:
    """Encode a nonnegative number."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def field(number: int, value: int | bytes) -> bytes:
    """Encode a field: a number, or the bytes of a text or message."""
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def copy_field(data: Data, number: int, span: Span) -> bytes:
    """Encode a field with the same content and wire type as in `data`."""
    content = data[span.start : span.stop]
    length = varint(span.size) if span.kind == BYTES else b""
    return varint(number << 3 | span.kind) + length + content
