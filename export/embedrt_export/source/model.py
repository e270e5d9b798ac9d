"""What a model's files say, for all stages of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedrt.bundle.manifest import Pooling as PoolingMode
from embedrt.bundle.manifest import ScoreActivation, Similarity, Task
from embedrt_export.head import Head, pooling_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a model."""

    task: Task
    folder: Path
    """The model's folder."""
    transformer: Path
    """The folder of the encoder's config, weights and tokenizer."""
    config_changes: Mapping[str, Any]
    """Overrides for the encoder's config."""
    max_seq_length: int | None
    """Number of tokens to which texts are truncated, if the transformer's settings say so."""
    head: Head
    """The modules after the transformer, with their weights. Empty for a reranker, whose classifier
    belongs to its encoder's family."""
    weight_folders: tuple[Path, ...]
    """The folders with weights: the encoder's, and those of modules with weights."""
    similarity: Similarity | None
    """None if the files do not set it."""
    prompts: dict[str, str]
    default_prompt_name: str | None
    activation: ScoreActivation | None = None
    """What a reranker's scores go through; None if the files do not set it."""

    @property
    def pooling(self) -> tuple[PoolingMode, ...]:
        """The pooling modes of the head, in the order of concatenation."""
        return pooling_of(self.head)
