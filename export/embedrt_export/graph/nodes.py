"""A small hand for writing ONNX graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from embedrt.bundle.graph_rules import INPUT, OUTPUT
from embedrt.errors import UnsupportedModelError

MAX_BYTES = 2_000_000_000  # protobuf ends at 2 GiB; the rest of the graph needs a little
IR_VERSION = 11  # the first that knows opset 23, so that older readers take it too


class Nodes:
    """Nodes and weights in the order they were added; every value has a name of its own."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._names: dict[str, int] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output and return that output's name."""
        return self.add_many(operator, 1, *inputs, **attributes)[0]

    def add_many(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node of several outputs and return their names."""
        count = self._names[operator] = self._names.get(operator, -1) + 1
        name = f"{self._prefix}{operator}_{count}"
        results = [name] if outputs == 1 else [f"{name}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, results, name=name, **attributes))
        return results

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant under a name of the caller's and return the name."""
        if name in self.initializers:
            raise ValueError(f"two weights named {name}")
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def ints(self, *values: int) -> str:
        """Return the name of a 1-D int64 constant; the same constant is kept once."""
        name = f"{self._prefix}ints_" + "_".join(str(value) for value in values)
        if name not in self.initializers:
            self.weight(name, np.array(values, np.int64))
        return name

    def scalar(self, value: float) -> str:
        """Return the name of a float32 constant of no dimensions, kept once."""
        name = f"{self._prefix}scalar_{value!r}"
        if name not in self.initializers:
            self.weight(name, np.array(value, np.float32))
        return name

    def integer(self, value: int) -> str:
        """Return the name of an int64 constant of no dimensions, kept once."""
        name = f"{self._prefix}integer_{value}"
        if name not in self.initializers:
            self.weight(name, np.array(value, np.int64))
        return name

    def byte(self, value: int) -> str:
        """Return the name of a uint8 constant of no dimensions, kept once."""
        name = f"{self._prefix}byte_{value}"
        if name not in self.initializers:
            self.weight(name, np.array(value, np.uint8))
        return name

    def name_output(self, value: str) -> None:
        """Give the value that the graph ends in the contract's name."""
        self.nodes.append(helper.make_node("Identity", [value], [OUTPUT], name=OUTPUT))

    def to_model(self, *, opset: int, dimension: int) -> onnx.ModelProto:
        """Return a model of the contract: ids (batch, tokens) to float32 (batch, dimension)."""
        check_size(sum(len(weight.raw_data) for weight in self.initializers.values()))
        domains = {node.domain for node in self.nodes}
        graph = helper.make_graph(
            self.nodes,
            "sentence_encoder",
            [helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["batch", "tokens"])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", dimension])],
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


def check_size(size: int) -> None:
    """Raise UnsupportedModelError where weights of so many bytes do not fit into a graph."""
    if size > MAX_BYTES:
        raise UnsupportedModelError(
            f"the weights take {size / 1e9:.1f} GB and a graph in one file holds at most 2"
        )
