"""Tests that a text gives the same bytes, alone or in any batch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedrt import Embedder

THREADS = (1, 2, 3)
WORDS = st.sampled_from(
    ["London", "people", "antidisestablishmentarianism", "9", "?", "敏捷", "😀", "é"]
)
SENTENCES = st.lists(WORDS, max_size=12).map(" ".join)
LONG = st.tuples(WORDS, st.integers(20, 120)).map(lambda part: f"{part[0]} " * part[1])
SHORT = st.sampled_from(["London", "people", "?"])  # one token each, so lengths are often equal
EQUAL = st.sampled_from([1, 4, 17]).flatmap(lambda n: st.lists(SHORT, min_size=n, max_size=n))
TEXTS = st.lists(
    EQUAL.map(" ".join) | EQUAL.map(" ".join) | SENTENCES | st.text(max_size=30) | LONG,
    min_size=1,
    max_size=20,
)


@pytest.fixture(scope="module")
def embedders(minilm: Path) -> Iterator[list[Embedder]]:
    """The same bundle loaded with 1, 2 and 3 threads."""
    loaded = [Embedder.load(minilm, threads=threads) for threads in THREADS]
    yield loaded
    for embedder in loaded:
        embedder.close()


def check(embedders: list[Embedder], texts: list[str], data: st.DataObject) -> None:
    """Compare each text alone with the same text in a random batch."""
    order = data.draw(st.permutations(range(len(texts))))
    batch_size = data.draw(st.none() | st.integers(1, 5))
    embedder = data.draw(st.sampled_from(embedders))
    shuffled = [texts[index] for index in order]
    together = embedder.encode(shuffled, batch_size=batch_size)
    (streamed,) = embedder.embed_stream(shuffled, batch_size=batch_size)
    assert streamed.tobytes() == together.tobytes()
    for text, vector in zip(shuffled, together, strict=True):
        assert embedders[0].encode(text).tobytes() == vector.tobytes()


@settings(max_examples=20)
@given(texts=TEXTS, data=st.data())
def test_alone_and_in_any_batch(
    embedders: list[Embedder], texts: list[str], data: st.DataObject
) -> None:
    check(embedders, texts, data)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(texts=TEXTS, data=st.data())
def test_alone_and_in_many_more_batches(
    embedders: list[Embedder], texts: list[str], data: st.DataObject
) -> None:
    check(embedders, texts, data)


@pytest.mark.parametrize("tokens", [1, 3, 16, 17, 63, 254])
def test_batches_of_one_length(embedders: list[Embedder], tokens: int) -> None:
    words = ["people", "London", "million"]
    texts = [" ".join(words[(start + place) % 3] for place in range(tokens)) for start in range(9)]
    alone = [embedders[0].encode(text) for text in texts]
    for embedder in embedders:
        for count in (2, 9):
            together = embedder.encode(texts[:count])
            assert together.tobytes() == np.stack(alone[:count]).tobytes()


def test_another_session(minilm: Path, embedders: list[Embedder]) -> None:
    with Embedder.load(minilm) as other:
        assert other.encode("people").tobytes() == embedders[0].encode("people").tobytes()


def test_beside_a_corpus(embedders: list[Embedder]) -> None:
    """Texts of small calls interrupt the batches of a corpus, where the engine can do that."""
    random = np.random.default_rng(0)
    words = ["people", "London", "million", "is", "known"]
    corpus = [" ".join(random.choice(words, 100 + number)) for number in range(40)]
    small = [[f"{word} {number}", f"{number} {word}"] for number in range(4) for word in words]
    expected = [embedders[0].encode(texts).tobytes() for texts in [corpus, *small]]
    for embedder in embedders[:2]:
        with ThreadPoolExecutor(1) as pool:
            whole = pool.submit(embedder.encode, corpus)
            found = [embedder.encode(texts).tobytes() for texts in small]
            assert [whole.result().tobytes(), *found] == expected
