"""The graphs of sentence-transformers for backend="onnx": as exported, optimized, quantized."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from sentence_transformers import (
    SentenceTransformer,
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
)

ENVIRONMENT = "sentence-transformers-onnx"
ARTIFACTS = {
    "sentence-transformers-onnx": "source",
    "sentence-transformers-onnx-o3": "source",
    "sentence-transformers-onnx-qint8": "source",
}


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Export with the library's own functions and keep only the graph of this artifact."""
    del model
    encoder = SentenceTransformer(
        str(needed), backend="onnx", device="cpu", model_kwargs={"export": True}
    )
    encoder.save_pretrained(str(output))
    wanted = output / "onnx" / "model.onnx"
    if artifact.endswith("o3"):
        export_optimized_onnx_model(encoder, "O3", str(output))
        wanted = output / "onnx" / "model_O3.onnx"
    elif artifact.endswith("qint8"):
        quantization = _quantization()
        export_dynamic_quantized_onnx_model(encoder, quantization, str(output))
        wanted = output / "onnx" / f"model_qint8_{quantization}.onnx"
    graph = wanted.read_bytes()
    shutil.rmtree(output / "onnx")
    wanted.parent.mkdir()
    wanted.write_bytes(graph)


def _quantization() -> str:
    """Return the name of the library's quantization configuration for this processor."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    flags = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    )
    return "avx512_vnni" if "avx512_vnni" in flags else "avx2"
