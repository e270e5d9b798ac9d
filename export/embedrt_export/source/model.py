"""The settings in a model's files, for all stages of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedrt.bundle.late_interaction import TokenScore
from embedrt.bundle.manifest import Pooling as PoolingMode
from embedrt.bundle.manifest import ScoreActivation, Similarity, Task
from embedrt.pair import TextKind
from embedrt_export.encoder import FloatArray
from embedrt_export.head import Head, leaves_prompt_out, pooling_of
from embedrt_export.masked import SpladePooling


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QueryTable:
    """The weights of the tokens of queries, for models that run no encoder for queries."""

    folder: Path
    """The folder of the module, with its tokenizer."""
    weights: FloatArray
    """Shape: (vocabulary,)."""
    by_default: bool
    """Whether it also applies to texts that are neither queries nor documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseSettings:
    """Settings of sparse encoders."""

    pooling: SpladePooling
    max_active_dims: int | None
    """Number of active dimensions that the model keeps by default; None for all."""
    queries: QueryTable | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpansionSettings:
    """How short queries of a late interaction model are expanded."""

    length: int
    token: str | None
    """The added token; None for the tokenizer's mask token or, without one, its end token."""
    attended: bool
    """Whether tokens attend to the added ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateSettings:
    """Settings of late interaction models."""

    score: TokenScore
    expansion: ExpansionSettings | None
    skipped: tuple[str, ...]
    """Tokens whose vectors are dropped."""
    skipped_in: tuple[TextKind, ...]

    @property
    def hidden_within(self) -> int:
        """Length of the queries in which tokens are hidden; 0 if no token is hidden."""
        expansion = self.expansion
        return 0 if expansion is None or expansion.attended else expansion.length


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
    """The modules after the transformer, with their weights. Empty for rerankers and sparse
    encoders, whose heads belong to their encoder's family."""
    weight_folders: tuple[Path, ...]
    """The folders with weights: the encoder's, and those of modules with weights."""
    similarity: Similarity | None
    """None if the files do not set it."""
    prompts: dict[str, str]
    default_prompt_name: str | None
    activation: ScoreActivation | None = None
    """Activation of a reranker's scores; None if the files do not set it."""
    sparse: SparseSettings | None = None
    """For a sparse encoder, otherwise None."""
    late: LateSettings | None = None
    """For a late interaction model, otherwise None."""

    @property
    def hidden_within(self) -> int:
        """As in `LateSettings`; 0 for other models."""
        return self.late.hidden_within if self.late else 0

    @property
    def leaves_prompt_out(self) -> bool:
        """Whether the tokens of the prompt are not pooled."""
        return leaves_prompt_out(self.head)

    @property
    def pooling(self) -> tuple[PoolingMode, ...]:
        """The pooling modes of the head, in the order of concatenation."""
        return pooling_of(self.head)
