"""Recognizes the graphs that the kernels can run, and reads the encoder out of them.

A graph is recognized only if its nodes are exactly the sequence that the exporter writes for an
encoder with a norm after each sum, in int8 with static scales: the same operators in the same
order, with the same attributes, connected in the same way. Nothing is guessed, so every other graph
runs in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import EllipsisType
from typing import Any

import numpy as np

from embedrt.bundle.graph_rules import INPUT, OUTPUT
from embedrt.kernels.encoder import Array, Encoder, Layer, Linear, Norm
from embedrt.kernels.graph import Graph, Node, Value

PRODUCT = "com.microsoft.MatMulIntegerToFloat"
OPSETS = {"": 23, "com.microsoft": 1}
TO_FLOAT, TO_INT64 = 1, 7  # ONNX type numbers
SHORTEST = np.float32(1e-12)  # lengths that embeddings are divided by are at least this


class UnknownGraphError(ValueError):
    """The graph is not one that the kernels can run. The message says where it differs."""


def recognize(graph: Graph) -> Encoder:
    """Return the encoder that a graph computes; raise UnknownGraphError if the kernels cannot."""
    if graph.opsets != OPSETS:
        raise UnknownGraphError(f"its operators are of versions {graph.opsets}")
    walk = _Walk(graph)
    shape = walk.take("Shape", INPUT)
    by_text, width = walk.take_with_ints("Concat", shape, axis=0)
    relative_bias = _relative_bias(walk)
    words, scales, embedded = _words(walk)
    padding_id, rows, embedded = _positions(walk, shape, embedded)
    hidden = words.shape[1]
    if not hidden or width != (3 * hidden,):
        raise UnknownGraphError("queries, keys and values are not as wide as the encoder")
    by_token, flat = walk.take_with_ints("Reshape", embedded)
    if flat != (-1, hidden):
        raise UnknownGraphError("the words are not as wide as the encoder")
    norm, states = _norm(walk, by_token, hidden)
    layers: list[Layer] = []
    heads, scale = 0, 0.0
    while walk.next_operator() != "Concat":
        attention = _Attention(walk, hidden, by_text, relative_bias)
        layer, states = _layer(walk, attention, hidden, states)
        if layers and (attention.heads, attention.scale) != (heads, scale):
            raise UnknownGraphError("the layers have different heads")
        heads, scale = attention.heads, attention.scale
        layers.append(layer)
    ends, last = walk.take_with_ints("Concat", shape, axis=0)
    vectors = walk.take("Reshape", states, ends)
    if not layers or last != (hidden,):
        raise UnknownGraphError("it has no layers, or a projection after them")
    mean, normalized = _head(walk, vectors)
    table = None if relative_bias is None else relative_bias.table
    if table is not None and table.shape[0] != heads:
        raise UnknownGraphError("the relative bias has another number of heads")
    return Encoder(
        heads=heads,
        attention_scale=scale,
        padding_id=padding_id,
        words=words,
        word_scales=scales,
        position_rows=rows,
        relative_bias=table,
        embedding_norm=norm,
        layers=tuple(layers),
        mean=mean,
        normalized=normalized,
    )


class _Walk:
    """Takes the nodes of a graph in order, each of which must be as expected."""

    def __init__(self, graph: Graph) -> None:
        self._constants = graph.constants
        self._nodes = list(reversed(graph.nodes))
        outputs = [name for node in graph.nodes for name in node.outputs]
        if len({*outputs, *self._constants, INPUT}) != len(outputs) + len(self._constants) + 1:
            raise UnknownGraphError("two of its values have the same name")

    def next_operator(self) -> str:
        """Return the operator of the next node, "" at the end."""
        return self._nodes[-1].operator if self._nodes else ""

    def next_inputs(self) -> int:
        """Return the number of inputs of the next node, 0 at the end."""
        return len(self._nodes[-1].inputs) if self._nodes else 0

    def take(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Take a node with these inputs; return its output."""
        return self.take_node(operator, *inputs, **attributes).outputs[0]

    def take_with_ints(
        self, operator: str, value: str, **attributes: Any
    ) -> tuple[str, tuple[int, ...]]:
        """Take a node whose second input is a constant; return its output and the constant."""
        node = self.take_node(operator, value, ..., **attributes)
        return node.outputs[0], self.ints(node.inputs[1])

    def take_node(
        self,
        operator: str,
        *inputs: str | EllipsisType,
        free: Iterable[str] = (),
        outputs: int = 1,
        **attributes: Value,
    ) -> Node:
        """Take a node; any input fits ``...``, and any value the attributes in `free`."""
        if not self._nodes:
            raise UnknownGraphError(f"it ends where {operator} is expected")
        node = self._nodes.pop()
        given = {name: value for name, value in node.attributes.items() if name not in free}
        fits = len(node.inputs) == len(inputs) and all(
            wanted is ... or wanted == found
            for wanted, found in zip(inputs, node.inputs, strict=True)
        )
        known = node.operator == operator and len(node.outputs) == outputs
        if not (known and fits and given == attributes):
            name = node.outputs[0] if node.outputs else ""
            raise UnknownGraphError(f"{node.operator} {name!r} where {operator} is expected")
        return node

    def array(self, name: str, dtype: type, *shape: int) -> Array:
        """Return a constant of this type and shape; -1 fits any size."""
        found = self._constants.get(name)
        if found is None or found.dtype != dtype or len(found.shape) != len(shape):
            raise UnknownGraphError(f"{name!r} is not a constant of {dtype.__name__} {shape}")
        if any(wanted not in (-1, size) for wanted, size in zip(shape, found.shape, strict=True)):
            raise UnknownGraphError(f"{name!r} has shape {found.shape}; expected {shape}")
        return found

    def ints(self, name: str) -> tuple[int, ...]:
        """Return the values of a 1-D int64 constant."""
        return tuple(self.array(name, np.int64, -1).tolist())

    def integer(self, name: str) -> int:
        """Return the value of an int64 scalar."""
        return int(self.array(name, np.int64))

    def number(self, name: str) -> float:
        """Return the value of a float32 scalar."""
        return float(self.array(name, np.float32))

    def expect_integer(self, name: str, value: int) -> None:
        """Raise UnknownGraphError unless `name` is an int64 scalar of this value."""
        if self.integer(name) != value:
            raise UnknownGraphError(f"{name!r} is not {value}")

    def expect_ints(self, name: str, *values: int) -> None:
        """Raise UnknownGraphError unless `name` is an int64 vector of these values."""
        if self.ints(name) != values:
            raise UnknownGraphError(f"{name!r} is not {values}")

    def end(self) -> None:
        """Raise UnknownGraphError if nodes are left."""
        if self._nodes:
            raise UnknownGraphError(f"{self._nodes[-1].operator} where the graph should end")


class _RelativeBias:
    """The bias on attention scores by distance, and the name of its value for a batch."""

    def __init__(self, walk: _Walk) -> None:
        tokens = walk.take_node("Gather", walk.take("Shape", INPUT), ...)
        walk.expect_integer(tokens.inputs[1], 1)
        line = walk.take_node("Range", ..., tokens.outputs[0], ...)
        walk.expect_integer(line.inputs[0], 0)
        walk.expect_integer(line.inputs[2], 1)
        row, zero = walk.take_with_ints("Unsqueeze", line.outputs[0])
        column, one = walk.take_with_ints("Unsqueeze", line.outputs[0])
        distance = walk.take("Sub", row, column)
        if (zero, one) != ((0,), (1,)):
            raise UnknownGraphError("the distances have other axes")
        limits = None
        if walk.next_operator() == "Max":
            least = walk.take_node("Max", distance, ...)
            most = walk.take_node("Min", least.outputs[0], ...)
            distance = most.outputs[0]
            limits = walk.integer(least.inputs[1]), walk.integer(most.inputs[1])
        moved = walk.take_node("Add", distance, ...)
        found = walk.take_node("Gather", ..., moved.outputs[0], axis=1)
        self.table = walk.array(found.inputs[0], np.float32, -1, -1)
        self.value, axes = walk.take_with_ints("Unsqueeze", found.outputs[0])
        furthest = self.table.shape[1] // 2
        self.is_limited = limits is not None
        fits = limits in (None, (-furthest, furthest)) and axes == (0,)
        if not fits or walk.integer(moved.inputs[1]) != furthest or self.table.shape[1] % 2 == 0:
            raise UnknownGraphError("the relative bias is not symmetric")


def _relative_bias(walk: _Walk) -> _RelativeBias | None:
    return _RelativeBias(walk) if walk.next_operator() == "Shape" else None


def _words(walk: _Walk) -> tuple[Array, Array, str]:
    """Return the words, their scales, and the name of the embedded tokens."""
    steps = walk.take_node("Gather", ..., INPUT)
    cast = walk.take("Cast", steps.outputs[0], to=TO_FLOAT)
    scale = walk.take_node("Gather", ..., INPUT)
    embedded = walk.take("Mul", cast, scale.outputs[0])
    words = walk.array(steps.inputs[0], np.int8, -1, -1)
    return words, walk.array(scale.inputs[0], np.float32, len(words), 1), embedded


def _positions(walk: _Walk, shape: str, embedded: str) -> tuple[int | None, Array, str]:
    """Return the padding's id, the rows by position, and the name of the sum."""
    padding_id = None
    if walk.next_operator() == "Slice":
        end = walk.take_node("Slice", shape, ..., ...)
        walk.expect_ints(end.inputs[1], 1)
        walk.expect_ints(end.inputs[2], 2)
        rows = walk.take_node("Slice", ..., ..., end.outputs[0], ...)
        walk.expect_ints(rows.inputs[1], 0)
        walk.expect_ints(rows.inputs[3], 0)
    else:
        equal = walk.take_node("Equal", INPUT, ...)
        padding_id = walk.integer(equal.inputs[1])
        counted = walk.take("Cast", walk.take("Not", equal.outputs[0]), to=TO_INT64)
        total = walk.take_node("CumSum", counted, ...)
        walk.expect_integer(total.inputs[1], 1)
        position = walk.take("Mul", total.outputs[0], counted)
        rows = walk.take_node("Gather", ..., position)
    found = walk.take("Add", embedded, rows.outputs[0])
    return padding_id, walk.array(rows.inputs[0], np.float32, -1, -1), found


def _norm(walk: _Walk, value: str, hidden: int) -> tuple[Norm, str]:
    node = walk.take_node("LayerNormalization", value, ..., ..., free=["epsilon"], axis=-1)
    norm = Norm(
        weight=walk.array(node.inputs[1], np.float32, hidden),
        bias=walk.array(node.inputs[2], np.float32, hidden),
        epsilon=float(node.attributes.get("epsilon", 1e-5)),
    )
    return norm, node.outputs[0]


def _linear(walk: _Walk, value: str, inputs: int, outputs: int) -> tuple[Linear, str]:
    """Return a product that reads `value`, and the name of its result; -1 fits any `outputs`."""
    read, smoothing = value, None
    if walk.next_operator() == "Mul":
        smooth = walk.take_node("Mul", value, ...)
        smoothing, read = walk.array(smooth.inputs[1], np.float32, inputs), smooth.outputs[0]
    quantized = walk.take_node("QuantizeLinear", read, ..., ...)
    (steps,), (_, scale, zero) = quantized.outputs, quantized.inputs
    bias: list[str | EllipsisType] = [] if walk.next_inputs() == 5 else ["", ...]
    node = walk.take_node(PRODUCT, steps, ..., scale, ..., zero, *bias)
    weight = walk.array(node.inputs[1], np.int8, inputs, outputs)
    outputs = weight.shape[1]
    outliers = outlier_rows = None
    result = node.outputs[0]
    if walk.next_operator() == "Gather":
        picked = walk.take_node("Gather", value, ..., axis=1)
        added = walk.take_node("Gemm", picked.outputs[0], ..., result)
        outliers = walk.array(picked.inputs[1], np.int64, -1)
        outlier_rows = walk.array(added.inputs[1], np.float32, len(outliers), outputs)
        result = added.outputs[0]
    linear = Linear(
        scale=walk.number(scale),
        zero=int(walk.array(zero, np.uint8)),
        smoothing=smoothing,
        weight=weight,
        weight_scale=walk.array(node.inputs[3], np.float32, outputs),
        bias=walk.array(node.inputs[6], np.float32, outputs) if bias else None,
        outliers=outliers,
        outlier_rows=outlier_rows,
    )
    return linear, result


class _Attention:
    """The attention of a layer: its products, and the settings that all layers share."""

    def __init__(
        self, walk: _Walk, hidden: int, by_text: str, relative_bias: _RelativeBias | None
    ) -> None:
        self._walk, self._hidden, self._by_text = walk, hidden, by_text
        self._bias = [] if relative_bias is None else [relative_bias.value]
        self.heads, self.scale = 0, 0.0

    def read(self, states: str) -> tuple[Linear, Linear, str]:
        """Take the nodes from the states to the result of the output projection."""
        walk, hidden = self._walk, self._hidden
        projection, projected = _linear(walk, states, hidden, 3 * hidden)
        reshaped = walk.take("Reshape", projected, self._by_text)
        split = walk.take_node("Split", reshaped, ..., outputs=3, axis=-1)
        walk.expect_ints(split.inputs[1], hidden, hidden, hidden)
        free = ["q_num_heads", "kv_num_heads", "scale"]
        node = walk.take_node("Attention", *split.outputs, *self._bias, free=free)
        self.heads = int(node.attributes.get("q_num_heads", 0))
        if self.heads < 1 or node.attributes.get("kv_num_heads") != self.heads:
            raise UnknownGraphError("heads share keys")
        size = hidden / self.heads
        self.scale = float(node.attributes.get("scale", size**-0.5))
        flat, shape = walk.take_with_ints("Reshape", node.outputs[0])
        if shape != (-1, hidden):
            raise UnknownGraphError("the heads are not as wide as the encoder")
        output, result = _linear(walk, flat, hidden, hidden)
        return projection, output, result


def _layer(walk: _Walk, attention: _Attention, hidden: int, states: str) -> tuple[Layer, str]:
    projection, output, attended = attention.read(states)
    attention_norm, between = _norm(walk, walk.take("Add", attended, states), hidden)
    up, expanded = _linear(walk, between, hidden, -1)
    active = walk.take("Gelu", expanded, approximate="none")
    down, fed = _linear(walk, active, up.weight.shape[1], hidden)
    output_norm, states = _norm(walk, walk.take("Add", fed, between), hidden)
    layer = Layer(
        query_key_value=projection,
        attention_output=output,
        attention_norm=attention_norm,
        up=up,
        down=down,
        output_norm=output_norm,
    )
    return layer, states


def _head(walk: _Walk, vectors: str) -> tuple[bool, bool]:
    """Return whether the embedding is the mean, and whether it is normalized."""
    mean = walk.next_operator() == "Shape"
    if mean:
        tokens = walk.take("Shape", vectors, start=1, end=2)
        size = walk.take_node("Concat", ..., tokens, axis=0)
        walk.expect_ints(size.inputs[0], 1)
        ones = walk.take_node("Expand", ..., size.outputs[0])
        total = walk.take("MatMul", ones.outputs[0], vectors)
        embedding, axes = walk.take_with_ints("Squeeze", total)
        count = walk.take("Cast", walk.take("Shape", vectors, start=1, end=2), to=TO_FLOAT)
        embedding = walk.take("Div", embedding, count)
        if axes != (1,) or walk.number(ones.inputs[0]) != 1:
            raise UnknownGraphError("the pooling is not a mean")
    else:
        first = walk.take_node("Gather", vectors, ..., axis=1)
        walk.expect_integer(first.inputs[1], 0)
        embedding = first.outputs[0]
    normalized = walk.next_operator() == "ReduceL2"
    if normalized:
        length, axes = walk.take_with_ints("ReduceL2", embedding, keepdims=1)
        least = walk.take_node("Max", length, ...)
        embedding = walk.take("Div", embedding, least.outputs[0])
        if axes != (1,) or np.float32(walk.number(least.inputs[1])) != SHORTEST:
            raise UnknownGraphError("the normalization is another one")
    if walk.take("Identity", embedding) != OUTPUT:
        raise UnknownGraphError("its last node is not its output")
    walk.end()
    return mean, normalized
