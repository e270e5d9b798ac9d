"""A call: the texts of one caller, and their vectors as they are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.engine.cache import Known
from embedrt.engine.waking import Latch
from embedrt.errors import TextError
from embedrt.pair import Text

TokenIds = NDArray[np.int64]
FloatArray = NDArray[np.float32]

Row = NDArray[Any]
"""The result for one text: a row of the graph's output, or its converted form."""

Results = FloatArray | Sequence[Row]
"""The results of a batch, one a text."""

TokenizeTexts = Callable[[Sequence[Any]], list[TokenIds]]
"""Tokenizes texts; raises TextError with the index of the first one that cannot be tokenized."""

Group = tuple[int, int | None]
"""The token count and the caller's batch size, which all texts of a batch have in common."""


HEAD_START = 2048  # tokens by which a new call is ahead of calls that have run for long


@dataclass(slots=True, eq=False)
class Share:
    """The unit of fair scheduling: one call, or all calls of one stream."""

    served: int = 0
    """Tokens that have run for these calls."""

    def catch_up(self, time: int) -> None:
        """Forfeit service due from before this virtual time, except for a head start."""
        self.served = max(self.served, time - HEAD_START)

    def is_far_ahead_of(self, other: Share) -> bool:
        """Whether much more has run for these calls than for others."""
        return self.served > other.served + HEAD_START // 2


@dataclass(slots=True, eq=False, kw_only=True)
class Call:
    """Texts to run. The caller sets the first block of fields, the queue the second."""

    texts: Sequence[Text]
    """The caller's texts; reduced to the distinct ones when the call is created."""
    vectors: NDArray[Any]
    """A row for each text given, complete once `done` is set and there is no `error`. Shape: (texts
    given, dimension), or (texts given,) of arrays that differ in size."""
    empty: Row | float = 0.0
    """The result for a text without tokens, or the number in all its components."""
    batch_size: int | None = None
    """Upper limit of the texts in a batch."""
    first_index: int | None = 0
    """Index of the first text, for error messages; None if the caller passed one str."""
    share: Share = field(default_factory=Share)
    cache: Known | None = None
    """Results of earlier texts, looked up before the engine's own cache."""
    tokenize: TokenizeTexts | None = None
    """Tokenizes these texts in place of the engine's own tokenizer."""
    check: Callable[[Sequence[Any], Sequence[TokenIds]], None] | None = None
    """Checks texts with their token ids; a TextError that it raises ends the call."""
    notify: Callable[[], None] | None = None
    """Called after `done` is set, from any thread, while it holds the engine's lock."""

    token_counts: NDArray[np.int32] = field(init=False)
    """The token counts of the texts given, complete with `vectors`. Shape: (texts given,)."""
    done: Latch = field(default_factory=Latch, init=False)
    error: BaseException | None = field(default=None, init=False)
    untokenized: list[range] = field(default_factory=list, init=False)
    """The parts of `texts` whose tokenization has not started; the last one is next."""
    tokenized: int = field(default=0, init=False)
    """Number of texts that have been tokenized."""
    left: int = field(default=0, init=False)
    """Number of distinct texts without a vector."""
    expected: int = field(default=0, init=False)
    """Estimated tokens of the texts that have not been tokenized."""
    waiting: dict[Group, dict[bytes, Job]] = field(default_factory=dict, init=False)
    """Tokenized texts that wait to be run, by group and token ids."""
    waiting_texts: int = field(default=0, init=False)
    """Number of texts in `waiting`."""
    rows: Sequence[int] = field(default=(), init=False)
    """The first row of `vectors` for each distinct text."""
    copies: list[tuple[int, int]] = field(default_factory=list, init=False)
    """The further rows of repeated texts, each with the text's first row."""

    def __post_init__(self) -> None:
        given = self.texts
        self.token_counts = np.zeros(len(given), np.int32)
        self.rows = range(len(given))
        if len(given) > 1:
            self._drop_copies(given)
        self.left = len(self.texts)
        if self.left:
            self.untokenized = [range(self.left)]

    def _drop_copies(self, given: Sequence[Text]) -> None:
        first_rows = dict(zip(reversed(given), reversed(self.rows), strict=True))
        if len(first_rows) < len(given):
            self.copies = [
                (row, first) for row, text in enumerate(given) if (first := first_rows[text]) < row
            ]
            self.rows = sorted(first_rows.values())
            self.texts = [given[row] for row in self.rows]

    def take_texts(self, most: int) -> range:
        """Take up to `most` of the next texts to tokenize; return their places in `texts`."""
        part = self.untokenized.pop()
        if len(part) > most:
            self.untokenized.append(part[most:])
        return part[:most]

    @property
    def completed(self) -> int:
        """Number of the texts given that are complete; repeated ones are so with the call."""
        return len(self.vectors) if self.done.is_set() else len(self.texts) - self.left

    def finish(self, error: BaseException | None = None) -> None:
        """Complete the call, with its vectors or an error, and notify the caller."""
        if self.copies and error is None:
            rows, firsts = np.array(self.copies).T
            self.vectors[rows] = self.vectors[firsts]
            self.token_counts[rows] = self.token_counts[firsts]
        self.error = error
        self.done.set()
        if self.notify is not None:
            self.notify()

    def raise_error(self) -> None:
        """Raise the error of a failed call."""
        if self.error is not None:
            raise self.error

    def name_text(self, error: TextError, part: range) -> TextError:
        """Return the error with the caller's index in place of one in this part of the texts."""
        place = self.rows[part[error.index or 0]]
        named = error.at(None if self.first_index is None else self.first_index + place)
        named.__cause__ = error.__cause__
        return named


@dataclass(slots=True, eq=False)
class Job:
    """Token ids that wait or run, once for all calls that need them."""

    ids: TokenIds
    """Shape: (tokens,), or (2, tokens) with a second input after the ids."""
    key: bytes
    """The bytes of `ids`."""
    group: Group
    rows: list[tuple[Call, int]]
    """The calls, and the rows of their `vectors`, that the result is stored in."""

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self.ids.shape[-1])
