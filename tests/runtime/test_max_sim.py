"""MaxSim beside its definition, one product at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedrt import max_sim as module
from embedrt.max_sim import EMPTY_DOCUMENT, max_sim, max_sim_pairwise

Rows = NDArray[np.float32]


def texts(counts: list[int], seed: int) -> list[Rows]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(count, 5)).astype(np.float32) for count in counts]


def score(query: Rows, document: Rows) -> float:
    if not len(document):
        return float(EMPTY_DOCUMENT)
    return sum(max(float(a @ b) for b in document) for a in query)


@given(
    st.lists(st.integers(0, 6), max_size=5),
    st.lists(st.integers(0, 6), max_size=9),
    st.integers(0, 99),
    st.sampled_from([1, 7, 40, 1 << 22]),
)
def test_definition(asked: list[int], found: list[int], seed: int, most: int) -> None:
    queries, documents = texts(asked, seed), texts(found, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_PRODUCTS", most)  # so that documents are taken in parts
        scores = max_sim(queries, documents)
        means = max_sim(queries, documents, mean=True)
    expected = [[score(query, document) for document in documents] for query in queries]
    assert scores.shape == means.shape == (len(asked), len(found))
    assert scores.dtype == np.float32
    assert np.allclose(scores, np.reshape(expected, scores.shape), rtol=1e-5, atol=1e-5)
    counts = np.maximum(1, asked).reshape(-1, 1)
    assert np.allclose(means, scores / counts)
    pairs = min(len(asked), len(found))
    pairwise = max_sim_pairwise(queries[:pairs], documents[:pairs])
    assert np.allclose(pairwise, scores.diagonal()[:pairs], rtol=1e-5, atol=1e-5)


def test_one_text_is_a_matrix() -> None:
    (query,), (document,) = texts([3], 0), texts([4], 1)
    expected = max_sim([query], [document])
    assert expected.shape == (1, 1)
    assert np.array_equal(max_sim(query, document), expected)
    assert max_sim(np.stack([query, query]), document).shape == (2, 1)


@pytest.mark.parametrize(
    ("queries", "documents", "message"),
    [
        ([np.zeros((2, 5))], [np.zeros((2, 4))], "4 and 5 components cannot be compared"),
        ([np.zeros(5)], [np.zeros((2, 5))], r"\[0\] has the shape \(5,\)"),
    ],
)
def test_what_cannot_be_compared(queries: Any, documents: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        max_sim(queries, documents)


@pytest.mark.parametrize("bad", [None, "w1", ["w1", "w2"], 1.0])
def test_what_is_no_vectors(bad: Any) -> None:
    good = [np.eye(2, dtype=np.float32)]
    for a, b in ((bad, good), (good, bad)):
        with pytest.raises(TypeError, match=r"^these are not the vectors of texts \(.*; pass what"):
            max_sim(a, b)


def test_pairs_need_the_same_number() -> None:
    with pytest.raises(ValueError, match="1 queries and 2 documents; expected the same number"):
        max_sim_pairwise(texts([1], 0), texts([1, 2], 0))
