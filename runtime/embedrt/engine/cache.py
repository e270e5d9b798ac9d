"""A cache of vectors for repeated texts.

The cache is exact: a text's vector does not depend on the rest of its batch, so equal token ids
always give the same bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

from numpy.typing import NDArray

# Overhead of Python and numpy per entry, in addition to the bytes of key and vector.
ENTRY_BYTES = 300


class Known(Protocol):
    """Results that need no run, by token ids."""

    def get(self, key: bytes) -> NDArray[Any] | None:
        """Return the result for these token ids, or None."""

    def put(self, key: bytes, vector: NDArray[Any]) -> None:
        """Store a computed result."""


class VectorCache:
    """The most recently used vectors by token ids, in at most `size` bytes. Not thread-safe."""

    def __init__(self, size: int) -> None:
        self._room = size
        self._vectors: OrderedDict[bytes, NDArray[Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: bytes) -> NDArray[Any] | None:
        """Return the vector of these token ids, or None."""
        vector = self._vectors.get(key)
        if vector is not None:
            self._vectors.move_to_end(key)
        return vector

    def put(self, key: bytes, vector: NDArray[Any]) -> None:
        """Store a copy of a vector, and evict the least recently used ones to make room."""
        if key in self._vectors:
            self._vectors.move_to_end(key)
            return
        self._vectors[key] = vector.copy()
        self._room -= _size(key, vector)
        while self._room < 0:
            self._room += _size(*self._vectors.popitem(last=False))


def _size(key: bytes, vector: NDArray[Any]) -> int:
    return len(key) + vector.nbytes + ENTRY_BYTES
