"""The model in the hub's layout: all-MiniLM-L6-v2, or a full-size model with random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from model_folders import FULL_SIZE, make_full_size, minilm_folder

ENVIRONMENT = "harness"
ARTIFACTS = {"source": ""}

FILES = """
    modules.json config.json config_sentence_transformers.json sentence_bert_config.json
    model.safetensors tokenizer.json tokenizer_config.json special_tokens_map.json vocab.txt
""".split()


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Copy or generate the files of the model."""
    del artifact, needed
    if model in FULL_SIZE:
        output.rmdir()
        make_full_size(output, model)
        return
    folder = minilm_folder()
    for file in FILES:
        shutil.copy(folder / file, output)
    shutil.copytree(folder / "1_Pooling", output / "1_Pooling")
