"""Tests that padded batches give the vectors of single texts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.padding import (
    TOKENS_PER_BATCH,
    PaddedBatch,
    encode_padded,
    mean_pool,
    open_tokenizer,
    padded_batches,
)

WORDS = "a quiet harbor waits for boats that come back with the morning's catch".split()
TEXTS = st.lists(st.integers(0, 300).map(lambda n: " ".join(WORDS * (n // 4))), min_size=1)


@pytest.fixture(scope="module")
def tokenizer(minilm: Path) -> Tokenizer:
    return open_tokenizer(minilm, 256)


def embed(batch: PaddedBatch) -> NDArray[np.float32]:
    """Return vectors that depend on the tokens and their order, but not on the padding."""
    places = np.arange(1, batch.input_ids.shape[1] + 1)
    tokens = np.stack([batch.input_ids, batch.input_ids * places, places + batch.input_ids * 0], -1)
    return mean_pool(tokens.astype(np.float32), batch.attention_mask)


@given(TEXTS, st.sampled_from([None, 1, 8]))
@settings(max_examples=30)
def test_each_text_is_in_one_batch(
    tokenizer: Tokenizer, texts: list[str], texts_per_batch: int | None
) -> None:
    batches = list(padded_batches(tokenizer, texts, texts_per_batch))
    positions = [position for batch in batches for position in batch.positions]
    assert sorted(positions) == list(range(len(texts)))
    lengths = [batch.input_ids.shape[1] for batch in batches]
    assert lengths == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch.positions) == len(batch.input_ids)
        if texts_per_batch is None:
            assert batch.input_ids.size <= TOKENS_PER_BATCH or len(batch.positions) == 1
        else:
            assert len(batch.positions) <= texts_per_batch
        for position, ids, mask in zip(
            batch.positions, batch.input_ids, batch.attention_mask, strict=True
        ):
            expected = tokenizer.encode(texts[position]).ids
            assert ids[mask == 1].tolist() == expected
            assert mask.tolist() == [1] * len(expected) + [0] * (len(mask) - len(expected))
            assert not ids[mask == 0].any()


@given(TEXTS, st.booleans())
@settings(max_examples=30)
def test_vectors_are_in_the_order_of_the_texts(
    tokenizer: Tokenizer, texts: list[str], side_by_side: bool
) -> None:
    with ThreadPoolExecutor(2) as workers:
        found = encode_padded(tokenizer, texts, embed, workers if side_by_side else None)
    alone = [embed(batch) for text in texts for batch in padded_batches(tokenizer, [text])]
    np.testing.assert_allclose(found, np.concatenate(alone), rtol=1e-5)


def test_a_graph_gets_the_inputs_that_it_names(tokenizer: Tokenizer) -> None:
    (batch,) = padded_batches(tokenizer, ["a harbor"])
    assert batch.inputs(["attention_mask", "input_ids"]) == {
        "attention_mask": batch.attention_mask,
        "input_ids": batch.input_ids,
    }
    assert not batch.inputs(["token_type_ids"])["token_type_ids"].any()
