"""int8 for traced encoders: a rewrite of every product with a constant matrix.

Activations are scaled by the row, in 8 or 16 bits: nothing is known of where they come from, so
nothing is calibrated, and a text's bytes stay its own.
"""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from embedrt.manifest import Scheme
from embedrt_export.int8 import CONTRIB, add_product, quantize_rows, quantize_weight, quantize_wide
from embedrt_export.nodes import Nodes

SCHEMES: tuple[Scheme, ...] = ("row", "wide")
FEWEST_INPUTS = 64  # a product of fewer is not worth its quantization


def quantize_products(model: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """Return the model with each MatMul of a constant matrix in int8, the rest as it is."""
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    matrices = {
        weight.name: weight
        for weight in graph.initializer
        if len(weight.dims) == 2 and weight.dims[0] >= FEWEST_INPUTS
    }
    body: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for number, node in enumerate(graph.node):
        if node.op_type != "MatMul" or node.input[1] not in matrices:
            body.append(node)
            continue
        nodes = Nodes(prefix=f"int8_{number}/")
        weight, scales = quantize_weight(numpy_helper.to_array(matrices[node.input[1]]))
        left = (
            quantize_wide(nodes, node.input[0])
            if scheme == "wide"
            else quantize_rows(nodes, node.input[0], len(weight))
        )
        product = add_product(nodes, f"int8_{number}", left, weight, scales)
        nodes.nodes.append(helper.make_node("Identity", [product], list(node.output)))
        body.extend(nodes.nodes)
        constants.extend(nodes.initializers.values())
    read = {name for node in body for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(body)
    graph.initializer.extend([*kept, *constants])
    quantized.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return quantized
