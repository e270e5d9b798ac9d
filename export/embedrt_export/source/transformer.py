"""What a model's files say about its transformer module: ``sentence_bert_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedrt_export.source.checks import JsonObject, check_object, read_object
from embedrt_export.source.keys import HUB, TOKENIZER, TRANSFORMER, TRANSFORMER_FILES

OUTPUT = "last_hidden_state"
VECTORS = "token_embeddings"


@dataclass(frozen=True, slots=True)
class TransformerFile:
    """The first settings file of the transformer module that is there and not empty."""

    path: Path
    content: JsonObject

    @property
    def config_changes(self) -> Mapping[str, Any]:
        """The keys of ``config.json`` that it replaces."""
        old = "config_args" in self.content
        changes: JsonObject = self.content.get("config_args" if old else "config_kwargs", {})
        return {key: value for key, value in changes.items() if key not in HUB}


def read_transformer_file(folder: Path) -> TransformerFile:
    """Return the settings file of the transformer in `folder`; an empty one if there is none."""
    for name in TRANSFORMER_FILES:
        if content := read_object(folder / name):
            return TransformerFile(folder / name, content)
    return TransformerFile(folder / TRANSFORMER_FILES[0], {})


def check_transformer(root: Path, folder: Path, file: TransformerFile) -> list[str]:
    """Return every reason that the transformer's settings cannot be honored.

    Those of its tokenizer are checked too. `folder` lies in `root`, the model's folder.
    """
    reasons = check_object(root, file.path, file.content, TRANSFORMER)
    modalities = file.content.get("modality_config")
    if modalities is not None:
        label = file.path.relative_to(root)
        reasons += [f"{label}: {reason}" for reason in _check_modalities(file.content, modalities)]
    tokenizer = folder / "tokenizer_config.json"
    return reasons + check_object(root, tokenizer, read_object(tokenizer), TOKENIZER)


def _check_modalities(content: JsonObject, modalities: JsonObject) -> list[str]:
    """Reasons from `modality_config`, without which texts go through the encoder's forward."""
    if "message" in modalities:
        return ["modality_config has message: texts would be written into a chat template"]
    text = modalities.get("text")
    outputs = (OUTPUT, [OUTPUT])
    if not isinstance(text, dict) or text.get("method_output_name") not in outputs:
        return [f"modality_config takes no {OUTPUT} for a text"]
    if text.get("method") != "forward":
        return ["modality_config takes another method than forward for a text"]
    if content.get("module_output_name") != VECTORS:
        return [f"module_output_name is not {VECTORS}"]
    return []
