"""Checks of a graph file, made on its bytes before ONNX Runtime loads it.

A graph is refused if it uses operators outside the format's list, weights in files outside the
bundle, subgraphs, or local functions. Only the structure is parsed and weights are skipped, so
checking a graph of a gigabyte takes a millisecond.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from embedrt.bundle.decoding import REMEDY, unreadable
from embedrt.bundle.manifest import Manifest
from embedrt.bundle.memory import load_file
from embedrt.bundle.protobuf import (
    ATTRIBUTE_GRAPHS,
    ATTRIBUTE_INT,
    ATTRIBUTE_NAME,
    ATTRIBUTE_SPARSE,
    ATTRIBUTE_TENSORS,
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    GRAPH_SPARSE,
    MODEL_FUNCTIONS,
    NODE_ATTRIBUTE,
    NODE_DOMAIN,
    NODE_INPUT,
    NODE_OPERATOR,
    VALUE_NAME,
    Data,
    Field,
    Messages,
    Span,
    find_graph,
    number_of,
    text_of,
)
from embedrt.bundle.weights import check_places, is_external
from embedrt.errors import BundleCorruptError, BundleFormatError

INPUT = "input_ids"
OUTPUT = "embedding"


@dataclass(frozen=True, slots=True)
class Ends:
    """The names of a graph's inputs and outputs, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the names that a bundle's manifest declares."""
        return cls(
            tuple(value.name for value in manifest.inputs),
            tuple(value.name for value in manifest.outputs),
        )


EMBEDDING = Ends((INPUT,), (OUTPUT,))

# Only tensor arithmetic and shape operators: no control flow, strings, randomness or images.
OPERATORS = frozenset(
    """
    Abs Add And Attention Cast CastLike Ceil Clip Concat Constant ConstantOfShape Cos CumSum Div
    Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm Greater
    GreaterOrEqual HardSigmoid HardSwish Identity IsNaN LayerNormalization LeakyRelu Less
    LessOrEqual Log MatMul Max Min Mod Mul Neg Not Or Pow QuantizeLinear RMSNormalization Range
    Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape RotaryEmbedding Round
    ScatterElements ScatterND Shape Sigmoid Sign Sin Slice Softmax Softplus Split Sqrt Squeeze Sub
    Swish Tanh Tile Transpose Trilu Unsqueeze Where Xor com.microsoft.GroupQueryAttention
    com.microsoft.MatMulIntegerToFloat com.microsoft.MultiHeadAttention
    """.split()
)

_MOST_PROBLEMS = 10

# ONNX Runtime crashes on attribute values below these minimums, and on omitted inputs of these
# operators.
_MINIMUMS = {"q_num_heads": 1, "kv_num_heads": 1, "batch_dims": 0}
_MINIMUMS_OF = {
    "com.microsoft.GroupQueryAttention": {"num_heads": 1},
    "com.microsoft.MultiHeadAttention": {"num_heads": 1},
}
_VARIADIC = frozenset({"Concat", "Einsum", "Max", "Min"})

# Attribute values must be below this limit. Negative ones are not, because protobuf encodes them as
# unsigned 64-bit numbers.
_LIMIT = 1 << 31


def check_graph(path: Path, weights: int | None = None, ends: Ends = EMBEDDING) -> Messages:
    """Raise BundleFormatError listing how the graph at `path` violates the format.

    Returns what has been read of it. `weights` is the size in bytes of the weights file beside the
    graph; None for a format version without that file. `ends` are the inputs and outputs that it
    must have. Raises BundleCorruptError if the file is not a graph or cannot be read.
    """
    file, problems = _check(path, weights, ends)
    if problems:
        raise BundleFormatError(f"{path}: {'; '.join(problems)}; {REMEDY}")
    return file


def graph_problems(path: Path, weights: int | None = None, ends: Ends = EMBEDDING) -> list[str]:
    """Return how the graph at `path` violates the format: the first ten violations.

    Raises BundleCorruptError if the file is not a graph or cannot be read.
    """
    return _check(path, weights, ends)[1]


def _check(path: Path, weights: int | None, ends: Ends) -> tuple[Messages, list[str]]:
    try:
        file = Messages(load_file(path))
        return file, list(islice(dict.fromkeys(_problems(file, weights, ends)), _MOST_PROBLEMS))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, IndexError) as error:
        raise BundleCorruptError(f"{path} is not an ONNX graph ({error}); {REMEDY}") from error


def _problems(file: Messages, weights: int | None, ends: Ends) -> Iterator[str]:
    data = file.data
    graph, model = find_graph(data)
    if any(number == MODEL_FUNCTIONS for number, _ in model):
        yield "it defines functions of its own"
    fields = file.fields(graph)
    nodes = [span for number, span in fields if number == GRAPH_NODE]
    operators = [_operator(data, file.fields(node)) for node in nodes]
    if unknown := set(operators) - OPERATORS:
        yield f"operators outside the format's list: {reprlib.repr(sorted(unknown))}"
    for node, operator in zip(nodes, operators, strict=True):
        yield from _node_problems(file, node, operator)
    if any(number == GRAPH_SPARSE for number, _ in fields):
        yield "a sparse tensor"
    initializers = [span for number, span in fields if number == GRAPH_INITIALIZER]
    if weights is not None:
        yield from check_places(file, initializers, weights)
    else:
        for tensor in initializers:
            yield from _tensor_problems(file, tensor)
    named = ((GRAPH_INPUT, "input", ends.inputs), (GRAPH_OUTPUT, "output", ends.outputs))
    for field, kind, wanted in named:
        found = [
            text_of(data, file.fields(span), VALUE_NAME)
            for number, span in fields
            if number == field
        ]
        if found != list(wanted):
            yield f"its {kind}s are {reprlib.repr(found)}; expected {list(wanted)}"


def _operator(data: Data, node: list[Field]) -> str:
    """Return the node's operator, prefixed with its domain unless that is the standard one."""
    domain = text_of(data, node, NODE_DOMAIN)
    operator = text_of(data, node, NODE_OPERATOR)
    return f"{domain}.{operator}" if domain not in ("", "ai.onnx") else operator


def _node_problems(file: Messages, node: Span, operator: str) -> Iterator[str]:
    fields = file.fields(node)
    empty = any(number == NODE_INPUT and span.start == span.stop for number, span in fields)
    if empty and operator in _VARIADIC:
        yield f"an input is left out of {operator}"
    for number, attribute in fields:
        if number != NODE_ATTRIBUTE:
            continue
        parts = file.fields(attribute)
        name = text_of(file.data, parts, ATTRIBUTE_NAME)
        least = _MINIMUMS_OF.get(operator, {}).get(name, _MINIMUMS.get(name))
        if least is not None and not least <= number_of(file.data, parts, ATTRIBUTE_INT) < _LIMIT:
            yield f"{name} of {reprlib.repr(operator)} is not at least {least}"
        for inner, span in parts:
            if inner in ATTRIBUTE_GRAPHS:
                yield f"a subgraph in {reprlib.repr(operator)}"
            elif inner in ATTRIBUTE_SPARSE:
                yield f"a sparse tensor in {reprlib.repr(operator)}"
            elif inner in ATTRIBUTE_TENSORS:
                yield from _tensor_problems(file, span)


def _tensor_problems(file: Messages, tensor: Span) -> Iterator[str]:
    if is_external(file.fields(tensor)):
        yield "a tensor whose data lies in another file"
