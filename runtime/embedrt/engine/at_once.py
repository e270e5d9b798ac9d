"""Runs texts of any lengths as soon as they are tokenized, where queueing would take longer.

A static model averages rows of a table, which takes 2 microseconds a text. Its texts are therefore
not queued: the worker that tokenized them groups them by token count and runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.engine.call import Call, FloatArray, TokenIds
from embedrt.engine.outcomes import Tokenized
from embedrt.errors import EmbedrtError, TextError

# A run reads a vector for each token. In measurements, larger runs take longer per token, because
# their vectors do not fit in the core's cache.
TOKENS_PER_RUN = 1024

# A worker takes this many tokens, or its share of them if that is less. More tokens give larger
# batches, and make other callers wait longer.
TOKENS_AT_ONCE = 16384
FEWEST_TOKENS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of texts that ran as soon as they were tokenized."""

    vectors: FloatArray
    """Shape: (texts, dimension)."""
    token_counts: NDArray[np.int64]
    """Shape: (texts,)."""
    tokens: int
    """The sum of the token counts."""
    batches: int


def texts_at_once(call: Call, fair: int) -> int:
    """Return how many of the call's texts a worker takes whose fair share is `fair` tokens."""
    tokens = min(TOKENS_AT_ONCE, max(FEWEST_TOKENS_AT_ONCE, fair))
    return max(1, tokens * sum(map(len, call.untokenized)) // max(1, call.expected))


def run_at_once(run: Callable[[TokenIds], Any], call: Call, ids: Tokenized) -> Tokenized | Ran:
    """Run the texts of a call, unless one has no ids; return their ids if a run fails."""
    if not isinstance(ids, TextError):
        with suppress(EmbedrtError):  # the queue then runs them, and finds the one that fails
            return run_by_length(run, ids, call.vectors.shape[1], call.batch_size)
    return ids


def run_by_length(
    run: Callable[[TokenIds], Any],
    ids: Sequence[TokenIds],
    dimension: int,
    batch_size: int | None = None,
) -> Ran:
    """Run texts in batches of equal token count, of at most `batch_size` texts.

    Raises what `run` raises.
    """
    if len(ids) == 1:
        tokens = len(ids[0])
        return Ran(run(ids[0][None]), np.array([tokens]), tokens, 1)
    counts = np.fromiter(map(len, ids), np.int64, len(ids))
    vectors = np.empty((len(ids), dimension), np.float32)
    joined, starts = np.concatenate(ids), np.cumsum(counts) - counts
    order = np.argsort(counts, kind="stable")
    batches = 0
    for group in np.split(order, np.flatnonzero(np.diff(counts[order])) + 1):
        count = counts[group[0]]
        most = min(max(1, TOKENS_PER_RUN // max(1, count)), batch_size or len(group))
        for start in range(0, len(group), most):
            rows = group[start : start + most]
            vectors[rows] = run(joined[starts[rows, None] + np.arange(count)])
            batches += 1
    return Ran(vectors, counts, len(joined), batches)
