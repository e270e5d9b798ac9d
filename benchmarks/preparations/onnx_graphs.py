"""optimum's ONNX export of the whole model, and ONNX Runtime's dynamic int8 quantization of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from optimum.exporters.onnx import main_export

ENVIRONMENT = "sentence-transformers-onnx"
ARTIFACTS = {"onnx": "source", "onnx-dynamic-int8": "onnx"}


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Write ``model.onnx``, including pooling and normalization, and the tokenizer's files."""
    del model
    if artifact == "onnx":
        main_export(
            str(needed),
            output=output,
            task="feature-extraction",
            library_name="sentence_transformers",
            device="cpu",
        )
        return
    # As ONNX Runtime's documentation recommends.
    clean = output / "clean.onnx"
    quant_pre_process(str(needed / "model.onnx"), str(clean), skip_symbolic_shape=True)
    quantize_dynamic(clean, output / "model.onnx", weight_type=QuantType.QInt8, per_channel=True)
    clean.unlink()
    shutil.copy(needed / "tokenizer.json", output)
