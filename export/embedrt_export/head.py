"""The modules after the encoder as data: one dataclass per kind of module, with its weights.

A module reads one named value and writes another, as in sentence-transformers, where a module can
store its result under a separate name for a later module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from embedrt.bundle.manifest import Pooling as PoolingMode
from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import FloatArray, Linear, Norm

TOKENS = "token_embeddings"  # output of the encoder
EMBEDDING = "sentence_embedding"  # output of the last module

Input = Literal["input"]
DenseActivation = Literal["Identity", "Tanh", "ReLU", "Sigmoid", "GELU"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """Pooling of token vectors to one vector; several modes are concatenated in order."""

    modes: tuple[PoolingMode, ...]
    includes_prompt: bool = True
    """Whether all tokens are pooled; otherwise the input ``pooling_mask`` is 0 for those of the
    prompt, which are the first ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """activation(x @ weight + bias), plus x or x @ residual if there is a residual."""

    name: str
    """Folder of the module, for error messages."""
    linear: Linear
    activation: DenseActivation
    residual: FloatArray | Input | None = None
    """A projection of the input, shape (inputs, outputs), or the input itself."""
    reads: str = EMBEDDING
    writes: str = EMBEDDING

    @property
    def inputs(self) -> int:
        """Number of input components."""
        return int(self.linear.weight.shape[0])

    @property
    def outputs(self) -> int:
        """Number of output components."""
        return int(self.linear.weight.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm:
    """LayerNorm of the embedding."""

    name: str
    """Folder of the module, for error messages."""
    norm: Norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalize:
    """Normalization of the embedding to length 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate:
    """Truncation to the first components: `truncate_dim` of sentence-transformers."""

    dimension: int


HeadModule: TypeAlias = Pooling | Dense | LayerNorm | Normalize | Truncate
Head: TypeAlias = tuple[HeadModule, ...]


def drop_unread(modules: Sequence[HeadModule]) -> Head:
    """Return the modules that contribute to the embedding."""
    wanted, kept = {EMBEDDING}, list[HeadModule]()
    for module in reversed(modules):
        reads, writes = places(module)
        if writes not in wanted:
            continue
        wanted = (wanted - {writes}) | {reads}
        kept.append(module)
    return tuple(reversed(kept))


def places(module: HeadModule) -> tuple[str, str]:
    """Return the names of the values that a module reads and writes."""
    if isinstance(module, Dense):
        return module.reads, module.writes
    return (TOKENS if isinstance(module, Pooling) else EMBEDDING), EMBEDDING


def fit_head(head: Head, hidden: int, *, reads: str = TOKENS) -> Head:
    """Return the head for the value that it `reads`, by default token vectors, of width `hidden`.

    Truncations that remove no component are dropped. Raises UnsupportedModelError if a module
    expects another number of components than it receives.
    """
    widths = {reads: hidden}
    fitted: list[HeadModule] = []
    for module in head:
        source, writes = places(module)
        if source not in widths:
            raise UnsupportedModelError(
                f"a Dense module reads {source}, which no earlier module writes"
            )
        width = widths[source]
        if isinstance(module, Truncate) and module.dimension >= width:
            continue
        widths[writes] = _width_after(module, width)
        fitted.append(module)
    return tuple(fitted)


def pooling_of(head: Head) -> tuple[PoolingMode, ...]:
    """Return the pooling modes, in the order of concatenation."""
    return next((module.modes for module in head if isinstance(module, Pooling)), ())


def leaves_prompt_out(head: Head) -> bool:
    """Whether the tokens of the prompt are not pooled."""
    return any(isinstance(module, Pooling) and not module.includes_prompt for module in head)


def without_prompt(head: Head) -> Head:
    """Return the head with a pooling that leaves the prompt out."""
    return tuple(
        replace(module, includes_prompt=False) if isinstance(module, Pooling) else module
        for module in head
    )


def reads_first(head: Head) -> bool:
    """Whether the head reads no token's vector but the first."""
    return pooling_of(head) == ("cls",)


def is_normalized(head: Head) -> bool:
    """Whether the embedding has length 1."""
    return bool(head) and isinstance(head[-1], Normalize)


def _width_after(module: HeadModule, width: int) -> int:
    if isinstance(module, Pooling):
        return width * len(module.modes)
    if isinstance(module, Truncate):
        return module.dimension
    if isinstance(module, Normalize):
        return width
    takes = module.inputs if isinstance(module, Dense) else len(module.norm.weight)
    if takes != width:
        raise UnsupportedModelError(f"{module.name} takes {takes} components and gets {width}")
    return module.outputs if isinstance(module, Dense) else width
