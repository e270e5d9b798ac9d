"""What follows the encoder, as data: one class for each kind of module, weights included.

A module reads one named value and writes another, as in sentence-transformers, where a module may
leave its result beside the embedding for a later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from embedrt.bundle.manifest import Pooling as PoolingMode
from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import FloatArray, Linear, Norm

TOKENS = "token_embeddings"  # what the encoder writes
EMBEDDING = "sentence_embedding"  # what the last module leaves

Input = Literal["input"]
DenseActivation = Literal["Identity", "Tanh", "ReLU", "Sigmoid", "GELU"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """Token vectors to one vector: several modes are concatenated in order."""

    modes: tuple[PoolingMode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """activation(x @ weight + bias), plus x or x @ residual where there is a residual."""

    name: str
    """The module's folder, for messages."""
    linear: Linear
    activation: DenseActivation
    residual: FloatArray | Input | None = None
    """A projection of the input, shape (inputs, outputs), or the input itself."""
    reads: str = EMBEDDING
    writes: str = EMBEDDING

    @property
    def inputs(self) -> int:
        """Components that it takes."""
        return int(self.linear.weight.shape[0])

    @property
    def outputs(self) -> int:
        """Components that it gives."""
        return int(self.linear.weight.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm:
    """LayerNorm over the embedding."""

    name: str
    """The module's folder, for messages."""
    norm: Norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalize:
    """The embedding scaled to length 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate:
    """The embedding's first components: `truncate_dim` of sentence-transformers."""

    dimension: int


HeadModule: TypeAlias = Pooling | Dense | LayerNorm | Normalize | Truncate
Head: TypeAlias = tuple[HeadModule, ...]


def drop_unread(modules: Sequence[HeadModule]) -> Head:
    """Return the modules without those whose result does not reach the embedding."""
    wanted, kept = {EMBEDDING}, list[HeadModule]()
    for module in reversed(modules):
        reads, writes = places(module)
        if writes not in wanted:
            continue
        wanted = (wanted - {writes}) | {reads}
        kept.append(module)
    return tuple(reversed(kept))


def places(module: HeadModule) -> tuple[str, str]:
    """Return the names of what a module reads and writes."""
    if isinstance(module, Dense):
        return module.reads, module.writes
    return (TOKENS if isinstance(module, Pooling) else EMBEDDING), EMBEDDING


def fit_head(head: Head, hidden: int) -> Head:
    """Return the head as it applies to token vectors of `hidden` components.

    A truncation that cuts nothing is dropped. Raises UnsupportedModelError where a module takes
    another number of components than it gets.
    """
    widths: dict[str, int] = {}
    fitted: list[HeadModule] = []
    for module in head:
        reads, writes = places(module)
        if reads not in widths and not isinstance(module, Pooling):
            raise UnsupportedModelError(f"a Dense reads {reads}, which no module before it writes")
        width = hidden if isinstance(module, Pooling) else widths[reads]
        if isinstance(module, Truncate) and module.dimension >= width:
            continue
        widths[writes] = _width_after(module, width)
        fitted.append(module)
    return tuple(fitted)


def is_normalized(head: Head) -> bool:
    """Whether the embedding has length 1."""
    return isinstance(head[-1], Normalize)


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
