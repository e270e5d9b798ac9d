"""Padded batches, sorted by length and of similar cost, for contenders without a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

# Within a few percent of the best of 128 to 2,048 for each contender that uses it.
TOKENS_PER_BATCH = 512


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Texts of similar length."""

    positions: list[int]
    """The index of each text in the call."""
    input_ids: NDArray[np.int64]
    """The token ids, padded with 0. Shape: (texts, tokens of the longest)."""
    attention_mask: NDArray[np.int64]
    """1 for a token, 0 for padding. Shape: (texts, tokens of the longest)."""

    def inputs(self, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """Return the arrays that a graph with these inputs takes."""
        arrays = {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "token_type_ids": np.zeros_like(self.input_ids),
        }
        return {name: arrays[name] for name in names}


def open_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    """Open a model's tokenizer with truncation and without padding."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer


def padded_batches(
    tokenizer: Tokenizer, texts: Sequence[str], texts_per_batch: int | None = None
) -> Iterator[PaddedBatch]:
    """Tokenize the texts and group them by length, longest first.

    Without `texts_per_batch`, a batch has at most `TOKENS_PER_BATCH` tokens including padding, or a
    single text.
    """
    encodings = tokenizer.encode_batch_fast(list(texts))
    order = sorted(range(len(texts)), key=lambda position: -len(encodings[position]))
    start = 0
    while start < len(order):
        longest = len(encodings[order[start]])
        positions = order[start : start + (texts_per_batch or max(1, TOKENS_PER_BATCH // longest))]
        batch = PaddedBatch(positions, *np.zeros((2, len(positions), longest), np.int64))
        for row, position in enumerate(positions):
            ids = encodings[position].ids
            batch.input_ids[row, : len(ids)] = ids
            batch.attention_mask[row, : len(ids)] = 1
        yield batch
        start += len(positions)


def encode_padded(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    run: Callable[[PaddedBatch], NDArray[np.float32]],
    workers: ThreadPoolExecutor | None = None,
    texts_per_batch: int | None = None,
) -> NDArray[np.float32]:
    """Run the batches of `texts` on `workers`, or a single batch in this thread.

    Without workers, all batches run in this thread. Returns the vectors in the order of the texts.
    Shape: (texts, dimension).
    """
    batches = list(padded_batches(tokenizer, texts, texts_per_batch))
    if workers is None or len(batches) == 1:
        results: Iterator[NDArray[np.float32]] = map(run, batches)
    else:
        results = workers.map(run, batches)
    first = next(results)
    vectors = np.empty((len(texts), first.shape[1]), np.float32)
    for batch, result in zip(batches, chain([first], results), strict=True):
        vectors[batch.positions] = result
    return vectors


def mean_pool(
    tokens: NDArray[np.float32], attention_mask: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Average over the tokens and scale to length 1.

    Shape: (texts, tokens, dimension) and (texts, tokens) to (texts, dimension).
    """
    sums = np.matmul(attention_mask[:, None, :].astype(np.float32), tokens)[:, 0]
    vectors: NDArray[np.float32] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return vectors
