"""The folder that fastembed reads: the ONNX graph of the encoder, config and tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from embedrt_export.source.recipe import load_recipes

ENVIRONMENT = "harness"
ARTIFACTS = {"fastembed": "sentence-transformers-onnx"}

FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Copy the files and set the maximum length in the config, where the tokenizer reads it."""
    del artifact
    for file in FILES:
        shutil.copy(needed / file, output)
    shutil.copy(needed / "onnx" / "model.onnx", output)
    limit = load_recipes()[model].expect["max_tokens"]
    config = output / "tokenizer_config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text(encoding="utf-8")) | {"model_max_length": limit}),
        encoding="utf-8",
    )
