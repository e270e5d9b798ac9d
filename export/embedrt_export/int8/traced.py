"""int8 for traced encoders: quantizes products with constant matrices, and large tables.

Activations have one scale per row, in 8 or 16 bits. There is no calibration, because the structure
of the graph is unknown. The scales never depend on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from embedrt.bundle.quantization import Scheme
from embedrt.errors import QuantizationError
from embedrt_export.encoder import FloatArray
from embedrt_export.graph.nodes import CONTRIB, Nodes
from embedrt_export.graph.weights import Weights, read_graph, read_weight, write_graph
from embedrt_export.int8.scheme import (
    add_lookup,
    add_product,
    quantize_rows,
    quantize_weight,
    quantize_wide,
    require_products,
)

SCHEMES: tuple[Scheme, ...] = ("row", "wide")
FEWEST_INPUTS = 64  # smaller products gain nothing from quantization
FEWEST_ROWS = 1024  # nor do smaller tables


def quantize_traced(graph: Path, scheme: Scheme, folder: Path) -> Path:
    """Write the graph to `folder` with its constant matrices in int8 and the rest unchanged.

    Returns the new graph's path. Raises QuantizationError if there is no such matrix or if one was
    not quantized.
    """
    model = read_graph(graph)
    matrices = {
        weight.name: weight
        for weight in model.graph.initializer
        if len(weight.dims) == 2 and weight.data_type == TensorProto.FLOAT
    }
    products = sum(_multiplies(node, matrices) for node in model.graph.node)
    if not products:
        raise QuantizationError(
            f"int8: no product of the traced graph has a constant matrix of {FEWEST_INPUTS} inputs "
            "or more; export this model in fp32"
        )
    with Weights(folder) as weights:
        _quantize(model, graph, matrices, scheme, weights)
    if CONTRIB not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    require_products(model, products)
    return write_graph(folder, model)


def _quantize(
    model: onnx.ModelProto,
    graph: Path,
    matrices: Mapping[str, onnx.TensorProto],
    scheme: Scheme,
    weights: Weights,
) -> None:
    """Replace products and lookups in `model`, and write all its weights to `weights`."""
    body: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for number, node in enumerate(model.graph.node):
        nodes = Nodes(prefix=f"int8_{number}/", weights=weights)
        name = f"int8_{number}"
        if _multiplies(node, matrices):
            matrix = read_weight(graph, matrices[node.input[1]])
            result = _add_product(nodes, name, node.input[0], matrix, scheme)
        elif _looks_up(node, matrices):
            table = read_weight(graph, matrices[node.input[0]])
            result = add_lookup(nodes, name, table, node.input[1])
        else:
            body.append(node)
            continue
        nodes.nodes.append(helper.make_node("Identity", [result], list(node.output)))
        body.extend(nodes.nodes)
        constants.extend(nodes.initializers.values())
    read = {name for node in body for name in node.input}
    kept = [
        weights.add(weight.name, read_weight(graph, weight))
        for weight in model.graph.initializer
        if weight.name in read
    ]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(body)
    model.graph.initializer.extend([*kept, *constants])


def _multiplies(node: onnx.NodeProto, matrices: Mapping[str, onnx.TensorProto]) -> bool:
    return (
        node.op_type == "MatMul"
        and node.input[1] in matrices
        and matrices[node.input[1]].dims[0] >= FEWEST_INPUTS
    )


def _looks_up(node: onnx.NodeProto, matrices: Mapping[str, onnx.TensorProto]) -> bool:
    return (
        node.op_type == "Gather"
        and node.input[0] in matrices
        and matrices[node.input[0]].dims[0] >= FEWEST_ROWS
        and not any(attribute.name == "axis" and attribute.i for attribute in node.attribute)
    )


def _add_product(nodes: Nodes, name: str, vectors: str, matrix: FloatArray, scheme: Scheme) -> str:
    weight, scales = quantize_weight(name, matrix)
    left = (
        quantize_wide(nodes, vectors)
        if scheme == "wide"
        else quantize_rows(nodes, vectors, len(weight))
    )
    return add_product(nodes, name, left, weight, scales)
