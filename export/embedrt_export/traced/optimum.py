"""Traces an encoder with optimum's ONNX exporter, which has a config for each architecture.

optimum is a separate extra, because its newest version does not support transformers 5.
"""

from __future__ import annotations

from pathlib import Path

from onnx import version_converter
from transformers import PreTrainedModel

from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.weights import read_graph

TRACED_OPSET = 18  # the newest that optimum supports for every architecture


def trace_by_optimum(encoder: PreTrainedModel, folder: Path) -> Path:
    """Trace `encoder` to a graph in `folder`; return its path. Exceptions of optimum propagate."""
    from optimum.exporters.onnx import export  # noqa: PLC0415 - imported only if needed
    from optimum.exporters.tasks import TasksManager  # noqa: PLC0415

    make_config = TasksManager.get_exporter_config_constructor(
        "onnx", encoder, task="feature-extraction", library_name="transformers"
    )
    file = folder / "traced.onnx"
    config = make_config(encoder.config)
    export(model=encoder, config=config, output=file, opset=TRACED_OPSET, device="cpu")
    model = version_converter.convert_version(read_graph(file), OPSET)
    file.write_bytes(model.SerializeToString())
    return file
