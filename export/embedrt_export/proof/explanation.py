"""Describes the texts on which a bundle differs from the original: by token ids or by numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from embedrt import Embedder
from embedrt.text.inputs import start_of
from embedrt_export.proof.comparison import MIN_COSINE, Comparison
from embedrt_export.proof.reference import Reference
from embedrt_export.proof.tokens import token_difference

NAMED = 3  # the texts that differ most


def explain(comparisons: Sequence[Comparison], embedder: Embedder, oracle: Reference) -> list[str]:
    """Describe the texts that differ most; an empty list if all agree."""
    least = MIN_COSINE[embedder.manifest.precision]
    return describe(comparisons, least, lambda one: _what_differs(one, embedder, oracle))


def describe(
    comparisons: Sequence[Comparison], least: float, what_differs: Callable[[Comparison], str]
) -> list[str]:
    """Describe the texts that differ most, and those with other bytes in a batch.

    `least` is the smallest cosine that agrees; `what_differs` completes the line on a text.
    """
    apart = [one for one in comparisons if not one.agrees(least)]
    # NaN sorts before any number.
    apart.sort(key=lambda one: -np.nan_to_num(one.difference, nan=np.inf))
    unsteady = [one for one in comparisons if not one.same_bytes]
    lines = [
        f"{one.call} on {start_of(one.text)} differs by {one.difference:.1e}{what_differs(one)}"
        for one in apart[:NAMED]
    ]
    lines += [
        f"{one.call} on {start_of(one.text)} gives different bytes in a batch"
        for one in unsteady[:NAMED]
    ]
    if len(apart) > NAMED:
        lines.append(f"{len(apart) - NAMED} more texts differ")
    return lines


def _what_differs(one: Comparison, embedder: Embedder, oracle: Reference) -> str:
    if reason := token_difference(one.call, one.text, embedder, oracle):
        return f": {reason}"
    count = len(oracle.input_ids(one.text, one.call))
    at = int(np.argmax(np.abs(one.found - one.expected)))  # NaN counts as the largest
    return (
        f" with the same {count} token ids: component {at} is "
        f"{one.found[at]:.7g} in the bundle and {one.expected[at]:.7g} in the original"
    )
