"""Which texts run together.

Every row of a batch has the same number of tokens, so nothing is ever padded and the graph has no
attention mask: that is what makes a text's vector independent of its neighbors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# From measurement: throughput is the same from 128 to 1,024 tokens a batch and falls beyond, where
# the activations leave the core's cache; memory grows with them.
TOKENS_PER_BATCH = 256


def plan_batches(
    lengths: NDArray[np.int64],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    texts_per_batch: int | None = None,
) -> list[NDArray[np.int64]]:
    """Split texts into batches of equal token count.

    Parameters
    ----------
    lengths
        Tokens of each text. Shape: (n,).
    tokens_per_batch
        A batch holds at most this many tokens, or one text if that alone has more.
    texts_per_batch
        A batch holds at most this many texts.

    Returns
    -------
    list of index arrays
        Each text's index in exactly one batch; the batches with most work first, so that the
        workers finish together.
    """
    order = np.argsort(-lengths, kind="stable")
    boundaries = np.flatnonzero(np.diff(lengths[order])) + 1
    batches: list[NDArray[np.int64]] = []
    for group in np.split(order, boundaries):
        if not group.size:
            continue
        length = int(lengths[group[0]])
        texts = max(1, tokens_per_batch // max(1, length))
        if texts_per_batch is not None:
            texts = min(texts, texts_per_batch)
        batches += [group[start : start + texts] for start in range(0, len(group), texts)]
    return sorted(batches, key=lambda batch: -len(batch) * int(lengths[batch[0]]))
