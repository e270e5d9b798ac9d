"""From a traced encoder to the graph of a bundle: one input, the head, and standard operators."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from embedrt.bundle.graph_rules import INPUT, OPERATORS
from embedrt.errors import UnsupportedModelError
from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.nodes import Nodes

ENCODED = "last_hidden_state"
# What the other inputs are, now that nothing is padded and a text is one segment.
CONSTANT_INPUTS = {"attention_mask": 1, "token_type_ids": 0}
SILENT = 4  # ONNX Runtime's log level "fatal": what goes wrong is raised, not printed


def finish_model(traced: onnx.ModelProto, head: Nodes, dimension: int) -> onnx.ModelProto:
    """Return the bundle's graph made of a traced encoder and the head that reads `ENCODED`.

    `traced` is changed. Raises UnsupportedModelError where a bundle may not hold it.
    """
    graph = traced.graph
    if ENCODED not in {value.name for value in graph.output}:
        raise UnsupportedModelError(f"the traced graph has no output {ENCODED}")
    _fill_inputs(graph)
    graph.node.extend(head.nodes)
    graph.initializer.extend(head.initializers.values())
    model = _simplify(traced, dimension)
    used = {f"{node.domain}.{node.op_type}".removeprefix(".") for node in model.graph.node}
    if forbidden := sorted(used - OPERATORS):
        raise UnsupportedModelError(
            f"the traced graph needs the operators {', '.join(forbidden)}, which no bundle may hold"
        )
    onnx.checker.check_model(model, full_check=True)
    return model


def _fill_inputs(graph: onnx.GraphProto) -> None:
    """Replace every input but the ids by a constant of their shape."""
    others = [value.name for value in graph.input if value.name != INPUT]
    if unknown := sorted(set(others) - CONSTANT_INPUTS.keys()):
        raise UnsupportedModelError(
            f"the traced graph has inputs that no bundle has: {', '.join(unknown)}"
        )
    nodes = [helper.make_node("Shape", [INPUT], ["filled_shape"])] if others else []
    for name in others:
        value = numpy_helper.from_array(np.array([CONSTANT_INPUTS[name]], np.int64))
        nodes.append(helper.make_node("ConstantOfShape", ["filled_shape"], [name], value=value))
    body = [*nodes, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(body)


def _simplify(model: onnx.ModelProto, dimension: int) -> onnx.ModelProto:
    """Fold constants, with the rewrites of ONNX Runtime that keep to standard operators."""
    shell = Nodes().to_model(opset=OPSET, dimension=dimension)
    del model.graph.output[:]
    model.graph.input.extend(shell.graph.input)
    model.graph.output.extend(shell.graph.output)
    model.ir_version = shell.ir_version
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "simple.onnx"
        options.optimized_model_filepath = str(file)
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        simple = onnx.load(file)
    del simple.opset_import[:]
    simple.opset_import.extend(shell.opset_import)  # it declares every domain that it knows
    simple.producer_name, simple.producer_version = shell.producer_name, ""
    return simple
