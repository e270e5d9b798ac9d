"""How contenders that come without a tokenizer make batches: sorted by length, of like cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

# Of 128 to 2,048, within a few percent of the best for each of them.
TOKENS_PER_BATCH = 512


@dataclass(frozen=True)
class PaddedBatch:
    """Texts of similar length."""

    positions: list[int]
    """Where each text stands in the call."""
    input_ids: NDArray[np.int64]
    """Shape: (texts, tokens of the longest); 0 behind the end of the others."""
    attention_mask: NDArray[np.int64]
    """1 for a token, 0 for padding. Shape: (texts, tokens of the longest)."""


def open_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    """Open a model's tokenizer, to cut and not to pad."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer


def padded_batches(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[PaddedBatch]:
    """Tokenize the texts and group them by length, the longest first.

    A batch has at most `TOKENS_PER_BATCH` tokens, padding included, or one text.
    """
    encodings = tokenizer.encode_batch_fast(list(texts))
    order = sorted(range(len(texts)), key=lambda position: -len(encodings[position]))
    start = 0
    while start < len(order):
        longest = len(encodings[order[start]])
        positions = order[start : start + max(1, TOKENS_PER_BATCH // longest)]
        yield _pad(positions, [encodings[position] for position in positions])
        start += len(positions)


def encode_padded(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    run: Callable[[PaddedBatch], NDArray[np.float32]],
    workers: ThreadPoolExecutor,
) -> NDArray[np.float32]:
    """Run the texts' batches side by side, a single one in this thread; vectors in input order."""
    batches = list(padded_batches(tokenizer, texts))
    results = [run(batches[0])] if len(batches) == 1 else list(workers.map(run, batches))
    vectors = np.empty((len(texts), results[0].shape[1]), np.float32)
    for batch, result in zip(batches, results, strict=True):
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


def _pad(positions: list[int], encodings: Sequence[Encoding]) -> PaddedBatch:
    shape = len(encodings), max(len(encoding) for encoding in encodings)
    input_ids, attention_mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, encoding in enumerate(encodings):
        input_ids[row, : len(encoding)] = encoding.ids
        attention_mask[row, : len(encoding)] = 1
    return PaddedBatch(positions, input_ids, attention_mask)
