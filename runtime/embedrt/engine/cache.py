"""Vectors kept for texts that come again.

Exact, for a text's vector does not depend on what else is in its batch: the vector of the same
token ids is the same bytes whenever it is computed.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

# What Python and numpy take for an entry besides the bytes of key and vector.
ENTRY_BYTES = 300


class VectorCache:
    """The vectors used last, by token ids, in at most `size` bytes. Not safe for many threads."""

    def __init__(self, size: int) -> None:
        self._room = size
        self._vectors: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: bytes) -> NDArray[np.float32] | None:
        """Return the vector of these token ids, if it is still there. Shape: (dimension,)."""
        vector = self._vectors.get(key)
        if vector is not None:
            self._vectors.move_to_end(key)
        return vector

    def put(self, key: bytes, vector: NDArray[np.float32]) -> None:
        """Keep a copy of a vector, and drop those that were used longest ago to make room."""
        if key in self._vectors:
            self._vectors.move_to_end(key)
            return
        self._vectors[key] = vector.copy()
        self._room -= _size(key, vector)
        while self._room < 0:
            self._room += _size(*self._vectors.popitem(last=False))


def _size(key: bytes, vector: NDArray[np.float32]) -> int:
    return len(key) + vector.nbytes + ENTRY_BYTES
