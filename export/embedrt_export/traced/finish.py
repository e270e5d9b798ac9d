"""Converts a traced encoder to a bundle's graph: one input, the head, standard operators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from embedrt.bundle.graph_rules import EMBEDDING, INPUT, OPERATORS, Ends
from embedrt.bundle.weights import MINIMUM_SIZE
from embedrt.errors import UnsupportedModelError
from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.nodes import Nodes
from embedrt_export.graph.weights import Weights, read_graph, read_weight, write_graph
from embedrt_export.quiet import gist
from embedrt_export.traced.convolutions import replace_convolutions

ENCODED = "last_hidden_state"
# Values of the other inputs: without padding, and each text is a single segment.
CONSTANT_INPUTS = {"attention_mask": 1, "token_type_ids": 0}
POSITIONS = "position_ids"  # 0, 1, 2, ... in each text
SHORT = (1, 2)  # texts, and tokens of each
SILENT = 4  # ONNX Runtime's log level "fatal": errors are raised, not printed


def finish_model(
    traced: Path, head: Nodes, dimension: int, folder: Path, ends: Ends = EMBEDDING
) -> Path:
    """Write a bundle's graph to `folder`, from a traced encoder and a head that reads `ENCODED`.

    `traced` is the encoder's graph, whose weights are in files beside it or in the graph itself.
    Returns the path of the new graph. Raises UnsupportedModelError if it breaks the rules for
    bundles.
    """
    model = read_graph(traced)
    graph = model.graph
    if ENCODED not in {value.name for value in graph.output}:
        raise UnsupportedModelError(f"the traced graph has no output {ENCODED}")
    _fill_inputs(graph)
    replace_convolutions(graph, lambda weight: read_weight(traced, weight))
    graph.node.extend(head.nodes)
    graph.initializer.extend(head.initializers.values())
    simple_file = _simplify(model, traced.parent, dimension, ends)
    simple = read_graph(simple_file)
    used = {f"{node.domain}.{node.op_type}".removeprefix(".") for node in simple.graph.node}
    if forbidden := sorted(used - OPERATORS):
        raise UnsupportedModelError(
            f"the traced graph needs the operators {', '.join(forbidden)}, which bundles may not "
            "contain"
        )
    with Weights(folder) as weights:
        for weight in simple.graph.initializer:
            weight.CopyFrom(weights.add(weight.name, read_weight(simple_file, weight)))
    finished = write_graph(folder, simple)
    onnx.checker.check_model(finished, full_check=True)
    return finished


def _fill_inputs(graph: onnx.GraphProto) -> None:
    """Replace every input except the token ids by a constant of the same shape."""
    others = [value.name for value in graph.input if value.name != INPUT]
    if unknown := sorted(set(others) - {*CONSTANT_INPUTS, POSITIONS}):
        raise UnsupportedModelError(
            f"the traced graph has inputs that bundles may not have: {', '.join(unknown)}"
        )
    filled = Nodes(prefix="filled/")
    shape = filled.add("Shape", INPUT)
    for name in others:
        if name == POSITIONS:
            tokens = filled.add("Gather", shape, filled.integer(1))
            row = filled.add("Range", filled.integer(0), tokens, filled.integer(1))
            value = filled.add("Expand", row, shape)
        else:
            value = filled.add("Expand", filled.integer(CONSTANT_INPUTS[name]), shape)
        filled.nodes.append(helper.make_node("Identity", [value], [name]))
    body = [*filled.nodes, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(body)
    graph.initializer.extend(filled.initializers.values())


def _simplify(model: onnx.ModelProto, folder: Path, dimension: int, ends: Ends) -> Path:
    """Apply ONNX Runtime's basic optimizations, which use standard operators only.

    The weights of `model` are in `folder`, where the result is written too; returns its path.
    """
    shell = Nodes().to_model(opset=OPSET, dimension=dimension, ends=ends)
    del model.graph.output[:]
    model.graph.input.extend(shell.graph.input)
    model.graph.output.extend(shell.graph.output)
    model.ir_version = shell.ir_version
    whole, simple_file = folder / "whole.onnx", folder / "simple.onnx"
    whole.write_bytes(model.SerializeToString())
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(simple_file)
    for key, value in {
        "session.disable_prepacking": "1",  # the session never runs
        "session.optimized_model_external_initializers_file_name": "simple.bin",
        "session.optimized_model_external_initializers_min_size_in_bytes": str(MINIMUM_SIZE),
    }.items():
        options.add_session_config_entry(key, value)
    _require_runs(
        ort.InferenceSession(str(whole), options, providers=["CPUExecutionProvider"]), ends.inputs
    )
    simple = read_graph(simple_file)
    used = {node.domain for node in simple.graph.node} - {"", "ai.onnx"}
    del simple.opset_import[:]  # ONNX Runtime declares all its domains
    simple.opset_import.extend(shell.opset_import)
    simple.opset_import.extend(helper.make_opsetid(domain, 1) for domain in sorted(used))
    simple.producer_name, simple.producer_version = shell.producer_name, ""
    simple_file.write_bytes(simple.SerializeToString())
    return simple_file


def _require_runs(session: ort.InferenceSession, inputs: Sequence[str]) -> None:
    """Raise UnsupportedModelError if the graph fails on a text, as some traced graphs do."""
    try:
        session.run(None, dict.fromkeys(inputs, np.zeros(SHORT, np.int64)))
    except Exception as error:  # ONNX Runtime raises many kinds
        raise UnsupportedModelError(
            f"the traced graph fails on a text of {SHORT[1]} tokens ({gist(error)})"
        ) from error
