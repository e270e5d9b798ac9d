"""The weights file beside the graph, which all sessions and processes map.

Tensors of the graph refer to it as ONNX external data. This module writes these references, and
checks them before ONNX Runtime maps the file.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from embedrt.bundle.protobuf import (
    BYTES,
    ENTRY_KEY,
    ENTRY_VALUE,
    GRAPH_INITIALIZER,
    MODEL_GRAPH,
    TENSOR_COMMENT,
    TENSOR_DIMENSIONS,
    TENSOR_EXTERNAL,
    TENSOR_LOCATION,
    TENSOR_NAME,
    TENSOR_RAW,
    TENSOR_TYPE,
    VARINT,
    Data,
    Field,
    Messages,
    Span,
    copy_field,
    field,
    find_graph,
    number_of,
    read_fields,
    read_varint,
    text_of,
)

WEIGHTS = "weights.bin"
ALIGNMENT = 64  # bytes: the size of a cache line and of the widest vector register
# Bytes. Smaller tensors stay in the graph: ONNX Runtime needs the values of shapes and scalars when
# it loads a graph.
MINIMUM_SIZE = 256

# Bytes per element, by ONNX type number: floats and integers of whole bytes.
ITEM_SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
EXTERNAL = 1  # the TENSOR_LOCATION of data in another file
LOCATION, OFFSET, LENGTH = "location", "offset", "length"
_MOST_DIGITS = 12
_ENTRY = [(ENTRY_KEY, BYTES), (ENTRY_VALUE, BYTES)]

_DESCRIPTION = frozenset({TENSOR_DIMENSIONS, TENSOR_TYPE, TENSOR_NAME, TENSOR_COMMENT})
_PLACE = frozenset({TENSOR_EXTERNAL, TENSOR_LOCATION})


def move_weights(model: Data, weights: BinaryIO) -> bytes:
    """Write the weights of `model` to the file `weights`; return the model that refers to them.

    Moves each initializer of at least `MINIMUM_SIZE` bytes and changes nothing else.
    """
    graph, fields = find_graph(model)
    moved = b"".join(
        field(number, _move(model, span, weights))
        if number == GRAPH_INITIALIZER
        else copy_field(model, number, span)
        for number, span in read_fields(model, graph)
    )
    return b"".join(
        field(number, moved) if number == MODEL_GRAPH else copy_field(model, number, span)
        for number, span in fields
    )


def _move(model: Data, tensor: Span, weights: BinaryIO) -> bytes:
    """Write the data of a large tensor to the file; return the encoded tensor."""
    fields = list(read_fields(model, tensor))
    raw = [span for number, span in fields if number == TENSOR_RAW and span.kind == BYTES]
    plain = {number for number, _ in fields} <= _DESCRIPTION | {TENSOR_RAW}
    known = number_of(model, fields, TENSOR_TYPE) in ITEM_SIZES
    if not (raw and plain and known and raw[-1].size >= MINIMUM_SIZE):
        return model[tensor.start : tensor.stop]
    weights.write(bytes(-weights.tell() % ALIGNMENT))
    place = {LOCATION: WEIGHTS, OFFSET: str(weights.tell()), LENGTH: str(raw[-1].size)}
    weights.write(model[raw[-1].start : raw[-1].stop])
    return b"".join(
        [
            *(copy_field(model, *part) for part in fields if part[0] != TENSOR_RAW),
            *(
                field(
                    TENSOR_EXTERNAL,
                    field(ENTRY_KEY, key.encode()) + field(ENTRY_VALUE, value.encode()),
                )
                for key, value in place.items()
            ),
            field(TENSOR_LOCATION, EXTERNAL),
        ]
    )


class Place(NamedTuple):
    """The byte range of a tensor in the file."""

    start: int
    stop: int


class _MisplacedError(ValueError):
    """A tensor's reference to the weights file is invalid. The message completes "a tensor"."""


def is_external(tensor: Iterable[Field]) -> bool:
    """Whether a tensor has any field about data in another file."""
    return any(number in _PLACE for number, _ in tensor)


def check_places(file: Messages, tensors: Iterable[Span], size: int) -> Iterator[str]:
    """Yield how initializers violate the format, for a weights file of `size` bytes."""
    places: list[Place] = []
    for tensor in tensors:
        fields = file.fields(tensor)
        if is_external(fields):
            try:
                places.append(_place(file, fields, size))
            except _MisplacedError as error:
                yield f"a tensor {error}"
    if any(after.start < before.stop for before, after in pairwise(sorted(places))):
        yield f"two tensors share bytes of {WEIGHTS}"


def find_tensor(file: Messages, tensors: Iterable[Span], name: str, size: int) -> Place | None:
    """Return where the file of `size` bytes has the tensor called `name`; None if it has not."""
    for tensor in tensors:
        fields = file.fields(tensor)
        if is_external(fields) and text_of(file.data, fields, TENSOR_NAME) == name:
            return _place(file, fields, size)
    return None


def _place(file: Messages, tensor: list[Field], size: int) -> Place:
    data = file.data
    where = [span for number, span in tensor if number == TENSOR_LOCATION]
    if len(where) != 1 or number_of(data, tensor, TENSOR_LOCATION) != EXTERNAL:
        raise _MisplacedError("must have data_location EXTERNAL exactly once")
    if other := {number for number, _ in tensor} - _DESCRIPTION - _PLACE:
        raise _MisplacedError(f"in {WEIGHTS} has fields {reprlib.repr(sorted(other))} as well")
    entries = _entries(file, tensor)
    if entries[LOCATION] != WEIGHTS:
        raise _MisplacedError(f"has its data in {reprlib.repr(entries[LOCATION])}")
    offset, length = _number(entries, OFFSET), _number(entries, LENGTH)
    if offset % ALIGNMENT:
        raise _MisplacedError(f"lies at {offset} of {WEIGHTS}, not a multiple of {ALIGNMENT}")
    if offset + length > size:
        raise _MisplacedError(f"ends at {offset + length} of {WEIGHTS}, which has {size} bytes")
    if _bytes_of(data, tensor, most=size) != length:
        raise _MisplacedError(f"has {length} bytes in {WEIGHTS}, which do not fit its shape")
    return Place(offset, offset + length)


def _entries(file: Messages, tensor: list[Field]) -> dict[str, str]:
    entries: list[tuple[str, str]] = []
    for number, span in tensor:
        if number != TENSOR_EXTERNAL:
            continue
        parts = file.fields(span) if span.kind == BYTES else []
        if [(part, value.kind) for part, value in parts] != _ENTRY:
            raise _MisplacedError("has an external_data entry that is not a key with a value")
        entries.append(
            (text_of(file.data, parts, ENTRY_KEY), text_of(file.data, parts, ENTRY_VALUE))
        )
    keys = sorted(key for key, _ in entries)
    if keys != sorted((LOCATION, OFFSET, LENGTH)):
        raise _MisplacedError(f"has the external_data keys {reprlib.repr(keys)}")
    return dict(entries)


def _number(entries: dict[str, str], key: str) -> int:
    text = entries[key]
    short = len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit()
    if not short or text != str(int(text)):
        raise _MisplacedError(f"has the {key} {reprlib.repr(text)} in {WEIGHTS}")
    return int(text)


def _bytes_of(data: Data, tensor: list[Field], *, most: int) -> int | None:
    """Return the size of a tensor of this shape and type; None if 0 or more than `most`."""
    size = ITEM_SIZES.get(number_of(data, tensor, TENSOR_TYPE), 0)
    for dimension in dimensions_of(data, tensor):
        size *= dimension
        if size > most:
            break
    return size if 0 < size <= most else None


def dimensions_of(data: Data, tensor: Iterable[Field]) -> Iterator[int]:
    """Yield the dimensions of a tensor; raise ValueError if one is not an integer."""
    for number, span in tensor:
        if number != TENSOR_DIMENSIONS:
            continue
        if span.kind not in (VARINT, BYTES):
            raise _MisplacedError("has a dimension that is not an integer")
        position = span.start
        while position < span.stop:  # a packed field has several numbers
            dimension, position = read_varint(data, position)
            yield dimension
