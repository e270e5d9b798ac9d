"""CTranslate2's own conversion to int8, which supports BERT and DistilBERT but not MPNet."""

from __future__ import annotations

import shutil
from pathlib import Path

from ctranslate2.converters import TransformersConverter

ENVIRONMENT = "ctranslate2-convert"
ARTIFACTS = {"ctranslate2-int8": "source"}


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Convert the encoder."""
    del artifact, model
    TransformersConverter(str(needed)).convert(str(output), quantization="int8", force=True)
    shutil.copy(needed / "tokenizer.json", output)
