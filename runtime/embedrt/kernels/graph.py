"""The structure of a bundle's graph: its nodes, and its constants without a copy.

Reads only files that `check_graph` has accepted. Errors of the file itself are therefore not
distinguished: any of them raises ValueError or LookupError.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from embedrt.bundle.protobuf import (
    ATTRIBUTE_INT,
    ATTRIBUTE_NAME,
    BYTES,
    ENTRY_KEY,
    ENTRY_VALUE,
    FIXED32,
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    NODE_ATTRIBUTE,
    NODE_DOMAIN,
    NODE_INPUT,
    NODE_OPERATOR,
    TENSOR_EXTERNAL,
    TENSOR_NAME,
    TENSOR_RAW,
    TENSOR_TYPE,
    Data,
    Field,
    Messages,
    Span,
    find_graph,
    number_of,
    text_of,
)
from embedrt.bundle.weights import LENGTH, OFFSET, dimensions_of, is_external
from embedrt.kernels.encoder import Array

MODEL_OPSET, OPSET_DOMAIN, OPSET_VERSION = 8, 1, 2
NODE_OUTPUT = 2
ATTRIBUTE_FLOAT, ATTRIBUTE_TEXT, ATTRIBUTE_KIND = 2, 4, 20
FLOAT, INT, TEXT = 1, 2, 3  # values of ATTRIBUTE_KIND
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 7: np.int64}  # by ONNX type number

Value = float | int | str


@dataclass(frozen=True, slots=True)
class Node:
    """An operator with the names of its inputs and outputs, and its attributes."""

    operator: str
    """With its domain, unless that is the standard one."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Graph:
    """The nodes of a graph in order, its constants by name, and the version of each domain."""

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    opsets: dict[str, int]


def read_graph(file: Messages, weights: Data | None) -> Graph:
    """Read a graph whose large constants are in `weights`, or in the graph itself.

    The constants are views of the file and `weights`. Raises ValueError for anything that does not
    occur in bundles that the kernels can run.
    """
    data = file.data
    span, model = find_graph(data)
    fields = file.fields(span)
    opsets = {}
    for number, one in model:
        if number == MODEL_OPSET:
            opset = file.fields(one)
            domain = text_of(data, opset, OPSET_DOMAIN)
            opsets[domain] = number_of(data, opset, OPSET_VERSION)
    nodes = [_read_node(file, one) for number, one in fields if number == GRAPH_NODE]
    tensors = [one for number, one in fields if number == GRAPH_INITIALIZER]
    constants = dict(_read_tensor(file, weights, one) for one in tensors)
    if len(constants) < len(tensors):
        raise ValueError("two constants with the same name")
    return Graph(tuple(nodes), constants, opsets)


def _read_node(file: Messages, span: Span) -> Node:
    data, fields = file.data, file.fields(span)
    domain, operator = text_of(data, fields, NODE_DOMAIN), text_of(data, fields, NODE_OPERATOR)
    attributes = [_read_attribute(file, one) for number, one in fields if number == NODE_ATTRIBUTE]
    if len(dict(attributes)) < len(attributes):
        raise ValueError(f"two attributes of {operator} with the same name")
    return Node(
        f"{domain}.{operator}" if domain else operator,
        _texts(data, fields, NODE_INPUT),
        _texts(data, fields, NODE_OUTPUT),
        dict(attributes),
    )


def _texts(data: Data, fields: Iterable[Field], wanted: int) -> tuple[str, ...]:
    return tuple(data[one.start : one.stop].decode() for number, one in fields if number == wanted)


def _read_attribute(file: Messages, span: Span) -> tuple[str, Value]:
    data, fields = file.data, file.fields(span)
    name, kind = text_of(data, fields, ATTRIBUTE_NAME), number_of(data, fields, ATTRIBUTE_KIND)
    if kind == INT:
        number = number_of(data, fields, ATTRIBUTE_INT)
        return name, number - (1 << 64) if number >= 1 << 63 else number
    if kind == TEXT:
        return name, text_of(data, fields, ATTRIBUTE_TEXT)
    floats = [one for number, one in fields if number == ATTRIBUTE_FLOAT and one.kind == FIXED32]
    if kind != FLOAT or len(floats) > 1:
        raise ValueError(f"attribute {name!r} is no number or text")
    # Protobuf leaves out a value of 0.
    return name, struct.unpack("<f", data[floats[0].start : floats[0].stop])[0] if floats else 0.0


def _read_tensor(file: Messages, weights: Data | None, span: Span) -> tuple[str, Array]:
    data, fields = file.data, file.fields(span)
    name, kind = text_of(data, fields, TENSOR_NAME), number_of(data, fields, TENSOR_TYPE)
    if kind not in DTYPES:
        raise ValueError(f"constant {name!r} has type {kind}")
    shape = tuple(dimensions_of(data, fields))
    count = math.prod(shape)
    dtype = np.dtype(DTYPES[kind])
    if is_external(fields):
        if weights is None:
            raise ValueError(f"constant {name!r} is in another file")
        place = _place(file, fields)
        start, size, held = int(place[OFFSET]), int(place[LENGTH]), weights
    else:
        raw = [one for number, one in fields if number == TENSOR_RAW and one.kind == BYTES]
        if len(raw) != 1:
            raise ValueError(f"constant {name!r} does not hold its bytes")
        start, size, held = raw[0].start, raw[0].size, data
    if size != count * dtype.itemsize or start + size > len(held):
        raise ValueError(f"constant {name!r} has {size} bytes for shape {shape}")
    return name, np.frombuffer(held, dtype, count, start).reshape(shape)


def _place(file: Messages, fields: Iterable[Field]) -> dict[str, str]:
    data = file.data
    entries = [file.fields(one) for number, one in fields if number == TENSOR_EXTERNAL]
    return {text_of(data, e, ENTRY_KEY): text_of(data, e, ENTRY_VALUE) for e in entries}
