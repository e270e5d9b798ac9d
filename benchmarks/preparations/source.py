"""The model in the hub's layout: all-MiniLM-L6-v2, or one of full width with random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.models import LONG_MODELS, MAX_TOKENS, minilm_folder
from large_models import make_large
from model_folders import FULL_SIZE, make_full_size

ENVIRONMENT = "harness"
ARTIFACTS = {"source": ""}

FILES = """
    modules.json config.json config_sentence_transformers.json sentence_bert_config.json
    model.safetensors tokenizer.json tokenizer_config.json special_tokens_map.json vocab.txt
    1_Pooling/config.json
""".split()


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Copy or generate the files of the model."""
    del artifact, needed
    if (long := LONG_MODELS.get(model)) is not None:
        output.rmdir()
        # With BERT's vocabulary, for texts of a given number of tokens.
        most, words = MAX_TOKENS[model], "bert"
        make_large(output, long.family, most, layers=long.layers, tokenizer=words)
        return
    if model in FULL_SIZE:
        output.rmdir()
        make_full_size(output, model)
        return
    (output / "1_Pooling").mkdir()
    for file in FILES:
        shutil.copy(minilm_folder() / file, output / file)
