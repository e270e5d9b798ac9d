"""Batches of equal token count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedrt.engine.scheduler import TOKENS_PER_BATCH, plan_batches

LENGTHS = st.lists(st.integers(0, 40), max_size=60)


def plain_batches(lengths: list[int], tokens: int, texts: int | None) -> list[list[int]]:
    """Group by length, then cut each group into pieces that keep both budgets."""
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(length, []).append(index)
    batches = []
    for length, group in groups.items():
        size = max(1, tokens // length) if length else tokens
        size = min(size, texts or size)
        batches += [group[start : start + size] for start in range(0, len(group), size)]
    return batches


@given(LENGTHS, st.integers(1, 100), st.none() | st.integers(1, 10))
def test_equals_the_plain_plan(lengths: list[int], tokens: int, texts: int | None) -> None:
    batches = plan_batches(
        np.array(lengths, np.int64), tokens_per_batch=tokens, texts_per_batch=texts
    )
    planned = [batch.tolist() for batch in batches]
    assert sorted(planned) == sorted(plain_batches(lengths, tokens, texts))


@given(LENGTHS, st.integers(1, 100), st.none() | st.integers(1, 10))
def test_invariants(lengths: list[int], tokens: int, texts: int | None) -> None:
    array = np.array(lengths, np.int64)
    batches = plan_batches(array, tokens_per_batch=tokens, texts_per_batch=texts)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(set(array[batch])) == 1
        assert len(batch) == 1 or array[batch].sum() <= tokens
        assert len(batch) <= (texts or len(lengths))
    work = [int(array[batch].sum()) for batch in batches]
    assert work == sorted(work, reverse=True)


def test_texts_of_equal_length_keep_their_order() -> None:
    (batch,) = plan_batches(np.full(20, 3, np.int64))
    assert batch.tolist() == list(range(20))


@pytest.mark.parametrize("length", [1, 16, TOKENS_PER_BATCH, 3 * TOKENS_PER_BATCH])
def test_the_token_budget_is_used(length: int) -> None:
    batches = plan_batches(np.full(1000, length, np.int64))
    assert {len(batch) for batch in batches[:-1]} <= {max(1, TOKENS_PER_BATCH // length)}
