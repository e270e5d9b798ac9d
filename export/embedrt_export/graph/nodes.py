"""Collects nodes and weights and assembles them to an ONNX model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from embedrt.bundle.graph_rules import EMBEDDING, OUTPUT, Ends
from embedrt.bundle.weights import MINIMUM_SIZE
from embedrt_export.graph.weights import Weights, digest, small_tensor

CONTRIB = "com.microsoft"  # the domain of ONNX Runtime's own operators
IR_VERSION = 11  # the lowest with opset 23, for compatibility with older readers


class Nodes:
    """Nodes and weights in insertion order, each value with a unique name.

    The values of large weights are written to `weights`, and not held. Without it, the model holds
    all values.
    """

    def __init__(self, prefix: str = "", weights: Weights | None = None) -> None:
        self._prefix = prefix
        self._add_weight = weights.add if weights else small_tensor
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._large: dict[tuple[object, ...], str] = {}
        self._names: dict[str, int] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the name of the output."""
        return self.add_many(operator, 1, *inputs, **attributes)[0]

    def add_many(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs; return their names."""
        count = self._names[operator] = self._names.get(operator, -1) + 1
        name = f"{self._prefix}{operator}_{count}"
        results = [name] if outputs == 1 else [f"{name}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, results, name=name, **attributes))
        return results

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant called `name`; return the name that it is stored by.

        Large equal constants are stored once, because some encoders share layers.
        """
        if name in self.initializers:
            raise ValueError(f"two weights named {name}")
        if array.nbytes >= MINIMUM_SIZE:
            stored = self._large.setdefault(digest(array), name)
            if stored != name:
                return stored
        self.initializers[name] = self._add_weight(name, array)
        return name

    def ints(self, *values: int) -> str:
        """Return the name of a 1-D int64 constant; equal constants are stored once."""
        return self._constant(f"ints_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """Return the name of a float32 scalar; equal scalars are stored once."""
        return self._constant(f"scalar_{value!r}", np.array(value, np.float32))

    def integer(self, value: int) -> str:
        """Return the name of an int64 scalar; equal scalars are stored once."""
        return self._constant(f"integer_{value}", np.array(value, np.int64))

    def byte(self, value: int) -> str:
        """Return the name of a uint8 scalar; equal scalars are stored once."""
        return self._constant(f"byte_{value}", np.array(value, np.uint8))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        name = self._prefix + name
        return name if name in self.initializers else self.weight(name, value)

    def name_output(self, value: str, name: str = OUTPUT) -> None:
        """Make `value` the output of the graph, under the name that bundles use."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=name))

    def to_model(
        self, *, opset: int, dimension: int, ends: Ends = EMBEDDING, by_token: bool = False
    ) -> onnx.ModelProto:
        """Return a model that maps ids (batch, tokens) to float32 (batch, dimension).

        `ends` are the names of the inputs, which all have the shape of the ids, and of the output,
        which has the shape (batch, tokens, dimension) if it is `by_token`.
        """
        (output,) = ends.outputs
        axes: list[str | int | None] = ["batch", "tokens"] if by_token else ["batch"]
        domains = {node.domain for node in self.nodes}
        graph = helper.make_graph(
            self.nodes,
            "sentence_encoder",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
                for name in ends.inputs
            ],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [*axes, dimension])],
            list(self.initializers.values()),
        )
        return helper.make_model(
            graph,
            opset_imports=[
                helper.make_opsetid("", opset),
                *(helper.make_opsetid(name, 1) for name in sorted(domains) if name),
            ],
            ir_version=IR_VERSION,
            producer_name="embedrt",
        )
