"""ONNX Runtime's dynamic quantization of optimum's export, as its documentation recommends."""

from __future__ import annotations

import shutil
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

ENVIRONMENT = "harness"
ARTIFACTS = ("onnx-dynamic-int8",)
NEEDS = "onnx"


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Quantize the weights per channel."""
    del artifact, model
    clean = output / "clean.onnx"
    quant_pre_process(str(needed / "model.onnx"), str(clean), skip_symbolic_shape=True)
    quantize_dynamic(clean, output / "model.onnx", weight_type=QuantType.QInt8, per_channel=True)
    clean.unlink()
    shutil.copy(needed / "tokenizer.json", output)
