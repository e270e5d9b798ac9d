"""What a graph file holds, read from its bytes before ONNX Runtime sees it.

A graph is refused here for what it asks for: operators outside the format's list, weights in other
files, subgraphs, local functions. Only the outline is read; weights are skipped, so that a graph of
a gigabyte takes a millisecond. Field numbers: ``onnx.proto`` of ONNX 1.23.
"""

from __future__ import annotations

import mmap
import reprlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from embedrt.bundle.manifest import AGAIN
from embedrt.errors import BundleCorruptError, BundleFormatError

INPUT = "input_ids"
OUTPUT = "embedding"

# Tensor arithmetic and shapes only: no control flow, strings, randomness or images.
OPERATORS = frozenset(
    """
    Abs Add And Attention Cast CastLike Ceil Clip Concat Constant ConstantOfShape Cos CumSum Div
    Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm Greater
    GreaterOrEqual HardSigmoid HardSwish Identity IsNaN LayerNormalization LeakyRelu Less
    LessOrEqual Log MatMul Max Min Mod Mul Neg Not Or Pow QuantizeLinear RMSNormalization Range
    Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape RotaryEmbedding Round
    ScatterElements ScatterND Shape Sigmoid Sign Sin Slice Softmax Softplus Split Sqrt Squeeze Sub
    Swish Tanh Tile Transpose Trilu Unsqueeze Where Xor com.microsoft.MatMulIntegerToFloat
    """.split()
)

# No message of a real graph has so many; a file of nothing but empty fields would take all memory.
_MOST_FIELDS = 100_000
_MOST_PROBLEMS = 10

# What ends the process inside ONNX Runtime: attributes below these, and inputs left out of those.
_LEAST = {"q_num_heads": 1, "kv_num_heads": 1, "batch_dims": 0}
_VARIADIC = frozenset({"Concat", "Einsum", "Max", "Min"})

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TOO_MANY = 1 << 31  # negative numbers are beyond it: protobuf takes them as 64 bits without sign
_LARGEST_KEY = 2**32 - 1  # protobuf drops the bits above, and so would see another field
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_INPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_EXTERNAL = (13, 14)
_VALUE_NAME = 1
_ATTRIBUTE_NAME, _ATTRIBUTE_INT = 1, 3


class Span(NamedTuple):
    """A run of bytes of the file: a message, or the value of a field."""

    start: int
    stop: int
    kind: int = _BYTES


Field = tuple[int, Span]


def check_graph(path: Path) -> None:
    """Raise BundleFormatError with everything about the graph at `path` that the format forbids.

    A file that is no graph, or cannot be read, is a BundleCorruptError.
    """
    problems = graph_problems(path)
    if problems:
        raise BundleFormatError(f"{path}: {'; '.join(problems)}; {AGAIN}")


def graph_problems(path: Path) -> list[str]:
    """Return what the format forbids about the graph at `path`, the first ten such things.

    Raises BundleCorruptError for a file that is no graph, or cannot be read.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return list(islice(dict.fromkeys(_problems(data)), _MOST_PROBLEMS))
    except (OSError, ValueError, IndexError) as error:
        raise BundleCorruptError(f"{path} is no ONNX graph ({error}); {AGAIN}") from error


def _problems(data: mmap.mmap) -> Iterator[str]:
    top = list(_fields(data, Span(0, len(data))))
    graphs = [span for number, span in top if number == _MODEL_GRAPH]
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} graphs in it")
    if any(number == _MODEL_FUNCTIONS for number, _ in top):
        yield "it defines functions of its own"
    fields = list(_fields(data, graphs[0]))
    nodes = [span for number, span in fields if number == _GRAPH_NODE]
    unknown = {_operator(data, list(_fields(data, node))) for node in nodes} - OPERATORS
    if unknown:
        yield f"operators outside the format's list: {reprlib.repr(sorted(unknown))}"
    for node in nodes:
        yield from _node_problems(data, node)
    for number, span in fields:
        if number == _GRAPH_INITIALIZER:
            yield from _tensor_problems(data, span)
        elif number == _GRAPH_SPARSE:
            yield "a sparse tensor"
    for field, kind, wanted in ((_GRAPH_INPUT, "input", INPUT), (_GRAPH_OUTPUT, "output", OUTPUT)):
        found = [
            _text(data, _fields(data, span), _VALUE_NAME)
            for number, span in fields
            if number == field
        ]
        if found != [wanted]:
            yield f"its {kind}s are {reprlib.repr(found)}; expected [{wanted!r}]"


def _operator(data: mmap.mmap, node: list[Field]) -> str:
    """The node's operator, after its domain where that is not the standard one."""
    domain = _text(data, node, _NODE_DOMAIN)
    operator = _text(data, node, _NODE_OPERATOR)
    return f"{domain}.{operator}" if domain not in ("", "ai.onnx") else operator


def _node_problems(data: mmap.mmap, node: Span) -> Iterator[str]:
    fields = list(_fields(data, node))
    operator = _operator(data, fields)
    empty = any(number == _NODE_INPUT and span.start == span.stop for number, span in fields)
    if empty and operator in _VARIADIC:
        yield f"an input is left out of {operator}"
    for number, attribute in fields:
        if number != _NODE_ATTRIBUTE:
            continue
        parts = list(_fields(data, attribute))
        name = _text(data, parts, _ATTRIBUTE_NAME)
        if name in _LEAST and not _LEAST[name] <= _int(data, parts) < _TOO_MANY:
            yield f"{name} of {reprlib.repr(operator)} is not at least {_LEAST[name]}"
        for inner, span in parts:
            if inner in _ATTRIBUTE_GRAPHS:
                yield f"a subgraph in {reprlib.repr(operator)}"
            elif inner in _ATTRIBUTE_SPARSE:
                yield f"a sparse tensor in {reprlib.repr(operator)}"
            elif inner in _ATTRIBUTE_TENSORS:
                yield from _tensor_problems(data, span)


def _tensor_problems(data: mmap.mmap, tensor: Span) -> Iterator[str]:
    if any(number in _TENSOR_EXTERNAL for number, _ in _fields(data, tensor)):
        yield "a tensor whose data lies in another file"


def _int(data: mmap.mmap, attribute: Iterable[Field]) -> int:
    found = 0
    for number, span in attribute:
        if number == _ATTRIBUTE_INT and span.kind == _VARINT:
            found, _ = _varint(data, span.start)
    return found


def _text(data: mmap.mmap, message: Iterable[Field], field: int) -> str:
    found = ""
    for number, span in message:
        if number == field and span.kind == _BYTES:  # protobuf skips it as any other kind
            found = data[span.start : span.stop].decode()
    return found


def _fields(data: mmap.mmap, message: Span) -> Iterator[Field]:
    """Yield number and value of each field of a protobuf message; ValueError where it is broken."""
    position = message.start
    for _ in range(_MOST_FIELDS):
        if position >= message.stop:
            return
        key, position = _varint(data, position)
        if key > _LARGEST_KEY:
            raise ValueError(f"a field number of more than 29 bits at byte {position}")
        if key < 8:
            raise ValueError(f"field number 0 before byte {position}")
        kind = key & 7
        if kind == _VARINT:
            _, stop = _varint(data, position)
        elif kind == _BYTES:
            length, position = _varint(data, position)
            stop = position + length
        elif kind in (_FIXED64, _FIXED32):
            stop = position + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError(f"wire type {kind} at byte {position}")
        if stop > message.stop:
            raise ValueError(f"a field ends at byte {stop} of {message.stop}")
        yield key >> 3, Span(position, stop, kind)
        position = stop
    if position < message.stop:
        raise ValueError(f"more than {_MOST_FIELDS} fields in one message")


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
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
