"""The digest of a corpus: a sum over its rows, the same for any parts, order and workers.

A row's hash covers the source file's path, the row's number in it, and the bytes of its vector. The
digest is the sum of these hashes modulo 2**256, so that parts can be added up in any order, and a
row that is lost, doubled, moved or changed changes the sum. It detects accidents; it does not
withstand someone who can choose the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODULUS = 1 << 256
ROW_BYTES = 8


def digest_rows(path: str, first: int, vectors: NDArray[Any], valid: NDArray[np.bool_]) -> int:
    """Return the digest of consecutive rows of one source file.

    Parameters
    ----------
    path
        The file's path, relative to the source.
    first
        The number of the first row in the file.
    vectors
        Any dtype. Shape: (rows, components), or (rows,) of arrays that differ in size.
    valid
        False where the text, and so the vector, is null. Shape: (rows,).
    """
    start = hashlib.sha256(path.encode() + b"\0")
    if vectors.dtype != object:
        vectors = np.ascontiguousarray(vectors, vectors.dtype.newbyteorder("<"))
    total = 0
    for row, (vector, is_valid) in enumerate(zip(vectors, valid, strict=True), first):
        one = start.copy()
        one.update(row.to_bytes(ROW_BYTES, "little"))
        if is_valid:
            one.update(vector.tobytes() if vector.dtype.names else vector.data)
        total += int.from_bytes(one.digest(), "little")
    return total % MODULUS


def add_digests(digests: Iterable[int]) -> int:
    """Return the digest of all rows from those of the parts."""
    return sum(digests) % MODULUS


def spell_digest(digest: int) -> str:
    """Return a digest as 64 hexadecimal digits."""
    return f"{digest:064x}"


def read_digest(text: str) -> int:
    """Parse the result of `spell_digest`."""
    return int(text, 16)
