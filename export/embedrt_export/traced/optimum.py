"""Encoders of other families, by way of optimum's ONNX exporter, brought to the same contract."""

from __future__ import annotations

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper, version_converter
from optimum.exporters.onnx import export
from optimum.exporters.tasks import TasksManager
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from embedrt.bundle.graph_rules import INPUT
from embedrt.errors import UnsupportedModelError
from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.nodes import Nodes
from embedrt_export.heads.head import add_head
from embedrt_export.heads.modules import Head
from embedrt_export.quiet import gist, quiet

TRACED_OPSET = 18  # the newest that optimum's exporter and every architecture agree on
ENCODED = "last_hidden_state"
# What the other inputs are, now that nothing is padded and a text is one segment.
CONSTANT_INPUTS = {"attention_mask": 1, "token_type_ids": 0}


def trace_model(folder: Path, head: Head, config: PretrainedConfig) -> tuple[onnx.ModelProto, int]:
    """Trace the encoder in `folder` and add the head; return the model and its dimension.

    Raises UnsupportedModelError where optimum does not know the architecture or weights lack.
    """
    encoder = _load_encoder(folder, config)
    with tempfile.TemporaryDirectory() as scratch, quiet(), redirect_stdout(io.StringIO()):
        traced = Path(scratch) / "traced.onnx"
        try:
            make_config = TasksManager.get_exporter_config_constructor(
                "onnx", encoder, task="feature-extraction", library_name="transformers"
            )
            export(
                model=encoder,
                config=make_config(encoder.config),
                output=traced,
                opset=TRACED_OPSET,
                device="cpu",
            )
            model = version_converter.convert_version(onnx.load(traced), OPSET)
        except Exception as error:
            raise UnsupportedModelError(
                f"optimum does not export the architecture {config.model_type}: {gist(error)}"
            ) from error
        _fill_inputs(model.graph)
        dimension = _append_head(model.graph, encoder.config.hidden_size, head)
        return _simplify(model, Path(scratch), dimension), dimension


def _load_encoder(folder: Path, config: PretrainedConfig) -> PreTrainedModel:
    """Load it anew, for tracing changes a model; make sure that no weight was left random."""
    try:
        with quiet():
            encoder, info = AutoModel.from_pretrained(
                folder,
                config=config,
                attn_implementation="eager",
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # whatever the files make it raise
        raise UnsupportedModelError(
            f"transformers does not load {folder}: {gist(error)}"
        ) from error
    wrong = {name for name in info["missing_keys"] if "pooler" not in name}
    wrong |= {str(key) for key in info["mismatched_keys"]}
    if wrong:
        raise UnsupportedModelError(f"the weights in {folder} lack {', '.join(sorted(wrong)[:5])}")
    traced: PreTrainedModel = encoder.eval()
    return traced


def _fill_inputs(graph: onnx.GraphProto) -> None:
    """Replace every input but the ids by a constant of their shape."""
    others = [value.name for value in graph.input if value.name != INPUT]
    if unknown := sorted(set(others) - CONSTANT_INPUTS.keys()):
        raise UnsupportedModelError(f"the traced encoder has inputs that we cannot fill: {unknown}")
    nodes = [helper.make_node("Shape", [INPUT], ["filled_shape"])]
    for name in others:
        value = numpy_helper.from_array(np.array([CONSTANT_INPUTS[name]], np.int64))
        nodes.append(helper.make_node("ConstantOfShape", ["filled_shape"], [name], value=value))
    body = [*nodes, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(body)


def _append_head(graph: onnx.GraphProto, hidden: int, head: Head) -> int:
    nodes = Nodes(prefix="head/")
    embedding, dimension = add_head(nodes, ENCODED, hidden, head)
    nodes.name_output(embedding)
    graph.node.extend(nodes.nodes)
    graph.initializer.extend(nodes.initializers.values())
    return dimension


def _simplify(model: onnx.ModelProto, scratch: Path, dimension: int) -> onnx.ModelProto:
    """Fold constants, with the rewrites of ONNX Runtime that keep to standard operators."""
    shell = Nodes().to_model(opset=OPSET, dimension=dimension)
    del model.graph.output[:]
    model.graph.input.extend(shell.graph.input)
    model.graph.output.extend(shell.graph.output)
    model.ir_version = shell.ir_version
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(scratch / "simple.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    simple = onnx.load(scratch / "simple.onnx")
    del simple.opset_import[:]
    simple.opset_import.extend(shell.opset_import)  # it declares every domain that it knows
    simple.producer_name, simple.producer_version = shell.producer_name, ""
    onnx.checker.check_model(simple, full_check=True)
    return simple
