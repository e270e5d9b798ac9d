"""Replaces Conv and Pad, which bundles may not contain, by permitted operators.

The convolutions of text encoders run along the tokens, in steps of one. Such a convolution is a
product of each token's neighborhood with a matrix, or, if each channel has weights of its own, a
weighted sum of shifted copies. Padding is zeros beside the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from embedrt_export.encoder import FloatArray
from embedrt_export.graph.nodes import Nodes

Constants: TypeAlias = Mapping[str, Callable[[], NDArray[Any]]]

END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A convolution along one axis, in steps of one."""

    weight: FloatArray
    """Shape: (outputs, inputs of a group, taps)."""
    bias: FloatArray | None
    groups: int
    axis: int
    """The axis of the tokens, counted with the channels last."""
    rank: int
    padding: tuple[int, int]
    """Number of zeros before and after the tokens."""
    dilation: int

    @property
    def by_channel(self) -> bool:
        """Whether each channel has weights of its own."""
        return self.weight.shape[:2] == (self.groups, 1)


ReadWeight: TypeAlias = Callable[[onnx.TensorProto], NDArray[Any]]
"""Returns the values of a tensor of the graph."""


def replace_convolutions(graph: onnx.GraphProto, read_weight: ReadWeight) -> None:
    """Replace each Conv and Pad that has an equivalent; leave the others."""
    constants = {weight.name: partial(read_weight, weight) for weight in graph.initializer}
    body: list[onnx.NodeProto] = []
    for number, node in enumerate(graph.node):
        prefix = f"{node.op_type.lower()}_{number}/"
        nodes = Nodes(prefix=prefix)
        result = None
        if node.op_type == "Conv" and (convolution := _read(node, constants)):
            result = _add_convolution(nodes, node.input[0], convolution, prefix)
        elif node.op_type == "Pad" and (padding := _read_padding(node, constants)):
            result = node.input[0]
            for axis, (before, after) in padding.items():
                result = _pad(nodes, result, axis, len(padding), before, after)
        if result is None:
            body.append(node)
            continue
        body += [*nodes.nodes, helper.make_node("Identity", [result], list(node.output))]
        graph.initializer.extend(nodes.initializers.values())
    del graph.node[:]
    graph.node.extend(body)


def _read(node: onnx.NodeProto, constants: Constants) -> Convolution | None:
    """Return the convolution of a node; None if it is of another kind."""
    settings = _attributes(node)
    if any(name not in constants for name in node.input[1:]):
        return None
    weight, *bias = (constants[name]() for name in node.input[1:])
    spatial = weight.ndim - 2
    wide = [axis for axis in range(spatial) if weight.shape[2 + axis] > 1] or [0]
    pads = settings.get("pads", [0] * (2 * spatial))
    padded = {axis for axis in range(spatial) if pads[axis] or pads[spatial + axis]}
    one_axis = len(wide) == 1 and padded <= set(wide)
    steps = settings.get("strides", [1])
    if not one_axis or set(steps) != {1} or settings.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    (axis,) = wide
    return Convolution(
        weight=weight.reshape(*weight.shape[:2], -1),
        bias=bias[0] if bias else None,
        groups=settings.get("group", 1),
        axis=1 + axis,
        rank=weight.ndim,
        padding=(pads[axis], pads[spatial + axis]),
        dilation=settings.get("dilations", [1] * spatial)[axis],
    )


def _add_convolution(nodes: Nodes, channels_first: str, conv: Convolution, prefix: str) -> str:
    """Add the nodes of a convolution. Shape of the result: (batch, outputs, ...)."""
    last = conv.rank - 1
    value = nodes.add("Transpose", channels_first, perm=[0, *range(2, conv.rank), 1])
    value = _pad(nodes, value, conv.axis, conv.rank, *conv.padding)
    taps = conv.weight.shape[2]
    shifted = [
        _slice(
            nodes,
            value,
            conv.axis,
            tap * conv.dilation,
            (tap + 1 - taps) * conv.dilation or END,
        )
        for tap in range(taps)
    ]
    if conv.by_channel:
        columns = [
            nodes.weight(f"{prefix}tap_{tap}", conv.weight[:, 0, tap]) for tap in range(taps)
        ]
        parts = [nodes.add("Mul", *pair) for pair in zip(shifted, columns, strict=True)]
        result = parts[0]
        for part in parts[1:]:
            result = nodes.add("Add", result, part)
    else:
        result = _add_products(nodes, shifted, conv, prefix)
    if conv.bias is not None:
        result = nodes.add("Add", result, nodes.weight(f"{prefix}bias", conv.bias))
    return nodes.add("Transpose", result, perm=[0, last, *range(1, last)])


def _add_products(nodes: Nodes, shifted: list[str], conv: Convolution, prefix: str) -> str:
    """Multiply each group of channels by its matrix."""
    last = conv.rank - 1
    outputs, inputs, taps = conv.weight.shape
    matrices = conv.weight.reshape(conv.groups, outputs // conv.groups, inputs, taps)
    results = []
    for group, matrix in enumerate(matrices):
        start, end = group * inputs, (group + 1) * inputs
        parts = [
            _slice(nodes, part, last, start, end) if conv.groups > 1 else part for part in shifted
        ]
        rows = nodes.add("Concat", *parts, axis=last) if taps > 1 else parts[0]
        columns = matrix.transpose(2, 1, 0).reshape(taps * inputs, -1)
        results.append(nodes.add("MatMul", rows, nodes.weight(f"{prefix}{group}", columns)))
    return nodes.add("Concat", *results, axis=last) if len(results) > 1 else results[0]


def _read_padding(node: onnx.NodeProto, constants: Constants) -> dict[int, tuple[int, int]] | None:
    """Return the zeros that a Pad adds before and after, by axis; None if it adds others."""
    names = [name for name in node.input[1:] if name]
    if _attributes(node).get("mode", b"constant") != b"constant" or len(node.input) > 3:
        return None
    if not names or any(name not in constants for name in names):
        return None
    pads, *value = (constants[name]() for name in names)
    if pads.min() < 0 or any(one.any() for one in value):
        return None
    rank = len(pads) // 2
    return {axis: (int(pads[axis]), int(pads[rank + axis])) for axis in range(rank)}


def _pad(nodes: Nodes, value: str, axis: int, rank: int, before: int, after: int) -> str:
    """Add zeros before and after the values along an axis."""
    if not before and not after:
        return value
    shape = nodes.add("Shape", value)
    zero = nodes.add("CastLike", nodes.scalar(0.0), value)

    def zeros(count: int) -> list[str]:
        if not count:
            return []
        sizes = [
            nodes.ints(count) if place == axis else _slice(nodes, shape, 0, place, place + 1)
            for place in range(rank)
        ]
        return [nodes.add("Expand", zero, nodes.add("Concat", *sizes, axis=0))]

    return nodes.add("Concat", *zeros(before), value, *zeros(after), axis=axis)


def _slice(nodes: Nodes, value: str, axis: int, start: int, end: int) -> str:
    return nodes.add("Slice", value, nodes.ints(start), nodes.ints(end), nodes.ints(axis))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
