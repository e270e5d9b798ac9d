"""optimum's ONNX export of the whole model, including pooling and normalization."""

from __future__ import annotations

from pathlib import Path

from optimum.exporters.onnx import main_export

ENVIRONMENT = "harness"
ARTIFACTS = ("onnx",)
NEEDS = "source"


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Export to ``model.onnx``, with the tokenizer's files in the same folder."""
    del artifact, model
    main_export(
        str(needed),
        output=output,
        task="feature-extraction",
        library_name="sentence_transformers",
        device="cpu",
    )
