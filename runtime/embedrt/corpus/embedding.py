"""How texts become vectors: the options of an embedding, and the type of its column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import pyarrow as pa

from embedrt.bundle.manifest import Manifest
from embedrt.text.prompts import Prompts

VectorPrecision = Literal["float32", "float16", "binary", "ubinary"]

COMPONENTS = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "binary": pa.int8(),
    "ubinary": pa.uint8(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """How a table's texts become vectors: all that decides the bytes, besides the bundle."""

    text: tuple[str, ...]
    """The text columns."""
    join: str = "\n"
    """What stands between the texts of several columns."""
    output_column: str = "embedding"
    """The name of the new column."""
    prompt: str = ""
    """Prepended to each text."""
    truncate_dim: int | None = None
    normalize: bool = False
    precision: VectorPrecision = "float32"
    overwrite_column: bool = False
    """Whether a column of the output's name is replaced."""

    def __post_init__(self) -> None:
        if self.precision not in get_args(VectorPrecision):
            raise ValueError(
                f"precision={self.precision!r}; expected one of {list(get_args(VectorPrecision))}"
            )

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
        return cls(
            text=(text,) if isinstance(text, str) else tuple(text),
            prompt=Prompts.of(manifest).choose(prompt_name, prompt),
            **options,
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the embedding that `to_json` has spelled, among other fields."""
        values = {field.name: content[field.name] for field in fields(cls)}
        return cls(**{**values, "text": tuple(content["text"])})

    def type_for(self, dimension: int) -> Any:
        """Return the type of the new column for a model of this dimension."""
        kept = dimension if self.truncate_dim is None else self.truncate_dim
        width = -(-kept // 8) if self.precision in ("binary", "ubinary") else kept
        return pa.list_(COMPONENTS[self.precision], width)

    def to_json(self) -> dict[str, Any]:
        """Return all fields by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "text": list(self.text)}
