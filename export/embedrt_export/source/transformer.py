"""Reads the settings of the transformer module: ``sentence_bert_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedrt.bundle.manifest import Task
from embedrt_export.source.checks import JsonObject, Table, check_object, read_object
from embedrt_export.source.keys import (
    CLASSIFIER,
    HUB,
    MASKED,
    TOKENIZER,
    TRANSFORMER,
    TRANSFORMER_FILES,
)
from embedrt_export.source.late_keys import LATE_TRANSFORMER

# By task: the required output of the encoder's forward for a text, and the name of its feature.
RESULTS: dict[Task, tuple[str, str]] = {
    "embedding": ("last_hidden_state", "token_embeddings"),
    "reranking": ("logits", "scores"),
    "sparse": ("logits", "token_embeddings"),
    "late-interaction": ("last_hidden_state", "token_embeddings"),
}
TABLES: dict[Task, Table] = {
    "embedding": TRANSFORMER,
    "reranking": CLASSIFIER,
    "sparse": MASKED,
    "late-interaction": LATE_TRANSFORMER,
}


@dataclass(frozen=True, slots=True)
class TransformerFile:
    """The first settings file of the transformer module that exists and is not empty."""

    path: Path
    content: JsonObject

    @property
    def config_changes(self) -> Mapping[str, Any]:
        """Overrides for keys of ``config.json``."""
        old = "config_args" in self.content
        changes: JsonObject = self.content.get("config_args" if old else "config_kwargs", {})
        return {key: value for key, value in changes.items() if key not in HUB}


def read_transformer_file(folder: Path) -> TransformerFile:
    """Return the settings file of the transformer in `folder`; an empty one if there is none."""
    for name in TRANSFORMER_FILES:
        if content := read_object(folder / name):
            return TransformerFile(folder / name, content)
    return TransformerFile(folder / TRANSFORMER_FILES[0], {})


def check_transformer(
    root: Path, folder: Path, file: TransformerFile, task: Task = "embedding"
) -> list[str]:
    """Return all reasons why the settings of the transformer and its tokenizer are unsupported.

    `root` is the model's folder and contains `folder`.
    """
    reasons = check_object(root, file.path, file.content, TABLES[task])
    modalities = file.content.get("modality_config")
    if modalities is not None:
        label = file.path.relative_to(root)
        reasons += [
            f"{label}: {reason}" for reason in _check_modalities(file.content, modalities, task)
        ]
    tokenizer = folder / "tokenizer_config.json"
    return reasons + check_object(root, tokenizer, read_object(tokenizer), TOKENIZER)


def _check_modalities(content: JsonObject, modalities: JsonObject, task: Task) -> list[str]:
    """Return the reasons why `modality_config` is unsupported for texts."""
    output, stored = RESULTS[task]
    if "message" in modalities:
        return ["modality_config has message: texts would be written into a chat template"]
    text = modalities.get("text")
    if not isinstance(text, dict) or text.get("method_output_name") not in (output, [output]):
        return [f"modality_config takes no {output} for a text"]
    if text.get("method") != "forward":
        return ["modality_config takes another method than forward for a text"]
    if content.get("module_output_name") != stored:
        return [f"module_output_name is not {stored}"]
    return []
