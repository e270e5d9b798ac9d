"""How texts become vectors: the options of an embedding, and the type of its column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import pyarrow as pa

from embedrt.arguments import check_choice
from embedrt.bundle.manifest import Manifest
from embedrt.corpus.sparse import COLUMN
from embedrt.errors import BundleFormatError
from embedrt.loaded import CLASSES
from embedrt.pair import TextKind
from embedrt.text.prompts import Prompts

VectorPrecision = Literal["float32", "float16", "binary", "ubinary"]

TASKS = ("embedding", "sparse")
SPARSE = ("max_active_dims", "task")

COMPONENTS = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "binary": pa.int8(),
    "ubinary": pa.uint8(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """The options that determine the vectors of a table's texts, together with the bundle."""

    text: tuple[str, ...]
    """The text columns."""
    join: str = "\n"
    """The separator between the texts of several columns."""
    output_column: str = "embedding"
    """The name of the new column."""
    prompt: str = ""
    """Prepended to each text."""
    truncate_dim: int | None = None
    normalize: bool = False
    precision: VectorPrecision = "float32"
    overwrite_column: bool = False
    """Whether a column of the output's name is replaced."""
    is_sparse: bool = False
    """Whether the bundle is of a sparse encoder."""
    max_active_dims: int | None = None
    """As in `SparseEncoder.encode`."""
    task: TextKind | None = None
    """As in `SparseEncoder.encode`."""

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, get_args(VectorPrecision))
        for name in ("truncate_dim", "normalize", "precision"):
            self._require(name, name in _changed(self), sparse=False)
        for name in SPARSE:
            self._require(name, name in _changed(self), sparse=True)

    def _require(self, name: str, is_set: bool, *, sparse: bool) -> None:
        if is_set and sparse != self.is_sparse:
            kind = "a sparse encoder" if sparse else "an embedding model"
            raise ValueError(f"{name}={getattr(self, name)!r}: only for {kind}")

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        text: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        **options: Any,
    ) -> Self:
        """Return the embedding with a model's prompt. Raises ValueError as `Embedder.encode`."""
        if manifest.task not in TASKS:
            raise BundleFormatError(
                f"{manifest.name} is a bundle for {manifest.task}, but a corpus needs a bundle "
                f"for {' or '.join(TASKS)}; use {CLASSES[manifest.task]}.load in Python"
            )
        prompts = Prompts.of(manifest)
        task = options.get("task")
        if task is not None and prompt is None and prompt_name is None:
            prompt_name = prompts.query if task == "query" else prompts.document
        return cls(
            text=(text,) if isinstance(text, str) else tuple(text),
            prompt=prompts.choose(prompt_name, prompt),
            is_sparse=manifest.task == "sparse",
            **options,
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the embedding from the result of `to_json`; other fields are ignored."""
        known = [field.name for field in fields(cls) if field.name in content]
        values = {name: content[name] for name in known}
        return cls(**{**values, "text": tuple(content["text"])})

    def type_for(self, dimension: int) -> Any:
        """Return the type of the new column for a model of this dimension."""
        if self.is_sparse:
            return COLUMN
        kept = dimension if self.truncate_dim is None else self.truncate_dim
        width = -(-kept // 8) if self.precision in ("binary", "ubinary") else kept
        return pa.list_(COMPONENTS[self.precision], width)

    def to_json(self) -> dict[str, Any]:
        """Return all fields by name; those of sparse encoders only where they are set."""
        left_out = {"is_sparse", *SPARSE} - _changed(self)
        names = [field.name for field in fields(self) if field.name not in left_out]
        return {**{name: getattr(self, name) for name in names}, "text": list(self.text)}


def _changed(embedding: Embedding) -> set[str]:
    """Return the names of the fields that do not have their default."""
    return {
        field.name for field in fields(embedding) if getattr(embedding, field.name) != field.default
    }
