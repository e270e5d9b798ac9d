"""Tests that a text gives the same bytes in any batch, in any order, on any number of threads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comparison import Pair
from embedrt import Embedder
from model_folders import is_known

THREADS = (1, 2, 3)
FAMILIES = [
    *("bert", "roberta", "xlm-roberta", "mpnet", "distilbert"),
    *("albert", "eurobert", "gte", "modernbert", "nomic_bert", "roformer", "t5", "umt5"),
    "xlm-roberta-xl",
    *("big_bird", "bloom"),
    *("gemma3", "qwen3"),
]
WORDS = ["the", "lazy", "dog", "лиса", "敏捷", "😀", "London"]

# Texts of words, many of equal length, and arbitrary texts.
TEXTS = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=40),
    min_size=1,
    max_size=40,
)

Loaded = Callable[[str], tuple[Embedder, ...]]


@pytest.fixture(scope="module")
def loaded(exported: Callable[[str], Pair]) -> Iterator[Loaded]:
    """Return a function that maps a family to embedders with different numbers of threads."""
    with ExitStack() as stack:

        @cache
        def load(family: str) -> tuple[Embedder, ...]:
            bundle = exported(family).bundle
            return tuple(
                stack.enter_context(Embedder.load(bundle, threads=threads)) for threads in THREADS
            )

        yield load


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "bloom" else [])
        for name in FAMILIES
        if is_known(name)
    ],
)
@settings(max_examples=40)
@given(texts=TEXTS, batch_size=st.none() | st.integers(1, 9), order=st.randoms())
def test_same_bytes(
    loaded: Loaded, family: str, texts: list[str], batch_size: int | None, order: random.Random
) -> None:
    embedders = loaded(family)
    alone = {text: embedders[0].encode(text).tobytes() for text in texts}
    batch = texts * 2
    order.shuffle(batch)
    for embedder in embedders:
        vectors = embedder.encode(batch, batch_size=batch_size)
        assert [vector.tobytes() for vector in vectors] == [alone[text] for text in batch]
