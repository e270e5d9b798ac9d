"""A call: the texts that one caller waits for, and their vectors as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event

import numpy as np
from numpy.typing import NDArray

from embedrt.engine.cache import VectorCache
from embedrt.errors import TextError

TokenIds = NDArray[np.int64]
FloatArray = NDArray[np.float32]

Group = tuple[int, int | None]
"""What texts of one batch have in common: their token count, and the caller's batch size."""


@dataclass(slots=True, eq=False)
class Share:
    """What calls that take their turns as one have been given: those of one stream, or one call."""

    served: int = 0
    """Tokens that have been run."""


@dataclass(slots=True, eq=False, kw_only=True)
class Call:
    """Texts to embed. The caller sets the first block of fields, the queue the second."""

    texts: Sequence[str]
    """Those that the caller gave, and then the distinct ones among them."""
    vectors: FloatArray
    """Complete once `done` is set and there is no `error`. Shape: (texts given, dimension)."""
    batch_size: int | None = None
    """Run at most so many of these texts together."""
    first_index: int | None = 0
    """The first text's place, for errors that name a text; None for a text that came alone."""
    share: Share = field(default_factory=Share)
    cache: VectorCache | None = None
    """Vectors of texts that came before, in place of the engine's own cache."""
    check: Callable[[Sequence[str], Sequence[TokenIds]], None] | None = None
    """Looks at texts and their token ids; a TextError that it raises fails the call."""
    notify: Callable[[], None] | None = None
    """Called once `done` is set, from any thread."""

    done: Event = field(default_factory=Event, init=False)
    error: BaseException | None = field(default=None, init=False)
    tokenized: int = field(default=0, init=False)
    """Texts before this one have been tokenized."""
    left: int = field(default=0, init=False)
    """Distinct texts without a vector."""
    expected: int = field(default=0, init=False)
    """Tokens of the texts that are not tokenized yet, estimated."""
    waiting: dict[Group, dict[bytes, Job]] = field(default_factory=dict, init=False)
    """Tokenized texts that wait to be run."""
    waiting_texts: int = field(default=0, init=False)
    rows: Sequence[int] = field(default=(), init=False)
    """Where the vector of each distinct text goes first."""
    copies: list[tuple[int, int]] = field(default_factory=list, init=False)
    """The other rows of texts that were given more than once, each with the first one."""

    def __post_init__(self) -> None:
        given = self.texts
        self.rows = range(len(given))
        first_rows = dict(zip(reversed(given), reversed(self.rows), strict=True))
        if len(first_rows) < len(given):
            self.copies = [
                (row, first) for row, text in enumerate(given) if (first := first_rows[text]) < row
            ]
            self.rows = sorted(first_rows.values())
            self.texts = [given[row] for row in self.rows]
        self.left = len(self.texts)

    def finish(self, error: BaseException | None = None) -> None:
        """Set the outcome and wake the caller."""
        if self.copies and error is None:
            rows, firsts = np.array(self.copies).T
            self.vectors[rows] = self.vectors[firsts]
        self.error = error
        self.done.set()
        if self.notify is not None:
            self.notify()

    def raise_error(self) -> None:
        """Raise what the call failed with, if it did."""
        if self.error is not None:
            raise self.error

    def name_text(self, error: TextError) -> TextError:
        """Return an error about one of the next texts, by the place that its caller knows."""
        place = self.rows[self.tokenized + (error.index or 0)]
        named = error.at(None if self.first_index is None else self.first_index + place)
        named.__cause__ = error.__cause__
        return named


@dataclass(slots=True, eq=False)
class Job:
    """Token ids that wait or run, once for all who asked for them."""

    ids: TokenIds
    """Shape: (tokens,)."""
    key: bytes
    group: Group
    rows: list[tuple[Call, int]]
    """Where the vector goes."""
