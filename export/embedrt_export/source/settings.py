"""Reads a model's settings by its task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from embedrt.bundle.manifest import Task
from embedrt_export.head import without_prompt
from embedrt_export.source.cross_encoder import read_cross_encoder
from embedrt_export.source.embedding import read_embedding
from embedrt_export.source.late import read_late
from embedrt_export.source.model import Settings
from embedrt_export.source.prompts import UNPOOLED
from embedrt_export.source.sparse import read_sparse
from embedrt_export.source.task import read_task

__all__ = ["Settings", "read_settings"]

READERS: dict[Task, Callable[[Path], Settings]] = {
    "embedding": read_embedding,
    "reranking": read_cross_encoder,
    "sparse": read_sparse,
    "late-interaction": read_late,
}


def read_settings(folder: Path, model: str = "") -> Settings:
    """Read the settings of the model in `folder`, whose id on the hub is `model`.

    Raises SourceError if the folder holds no model or a value in its files is of the wrong kind,
    and UnsupportedModelError with all reasons why the model cannot be exported.
    """
    settings = READERS[read_task(folder)](folder)
    if model in UNPOOLED:
        return replace(settings, head=without_prompt(settings.head))
    return settings
