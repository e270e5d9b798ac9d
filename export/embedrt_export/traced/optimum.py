"""Tracing with optimum's ONNX exporter, which has a configuration for each architecture it knows.

optimum is an extra of its own: its newest version takes no transformers 5.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from onnx import version_converter
from transformers import PreTrainedModel

from embedrt_export.graph.fuse import OPSET

TRACED_OPSET = 18  # the newest that optimum's exporter and every architecture agree on


def trace_by_optimum(encoder: PreTrainedModel) -> onnx.ModelProto:
    """Trace `encoder`; whatever optimum raises passes through."""
    from optimum.exporters.onnx import export  # noqa: PLC0415 - only where it is needed
    from optimum.exporters.tasks import TasksManager  # noqa: PLC0415

    make_config = TasksManager.get_exporter_config_constructor(
        "onnx", encoder, task="feature-extraction", library_name="transformers"
    )
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "traced.onnx"
        config = make_config(encoder.config)
        export(model=encoder, config=config, output=file, opset=TRACED_OPSET, device="cpu")
        return version_converter.convert_version(onnx.load(file), OPSET)
