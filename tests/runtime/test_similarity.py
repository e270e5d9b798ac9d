"""Tests of scores and search against literal formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from embedrt import semantic_search
from embedrt.bundle.manifest import Similarity
from embedrt.similarity import ROWS_PER_STEP, normalize, similarity, similarity_pairwise

NAMES = get_args(Similarity)
FloatArray = NDArray[np.float32]
NUMBERS = st.integers(-8, 8).map(lambda number: number / 4)  # many ties, and exact in float32


def matrices(rows: int, dimension: int = 3) -> st.SearchStrategy[FloatArray]:
    return arrays.arrays(np.float32, (rows, dimension), elements=NUMBERS)


def dot(a: Any, b: Any) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def cosine(a: Any, b: Any) -> float:
    return dot(a, b) / (max(math.sqrt(dot(a, a)), 1e-12) * max(math.sqrt(dot(b, b)), 1e-12))


def euclidean(a: Any, b: Any) -> float:
    return -math.sqrt(math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def manhattan(a: Any, b: Any) -> float:
    return -math.fsum(abs(x - y) for x, y in zip(a, b, strict=True))


PLAIN: dict[Similarity, Callable[[Any, Any], float]] = {
    "cosine": cosine,
    "dot": dot,
    "euclidean": euclidean,
    "manhattan": manhattan,
}


@pytest.mark.parametrize("name", NAMES)
@given(a=st.integers(0, 4).flatmap(matrices), b=st.integers(0, 4).flatmap(matrices))
def test_equals_the_formula(name: Similarity, a: FloatArray, b: FloatArray) -> None:
    found = similarity(a, b, name)
    expected = [[PLAIN[name](x, y) for y in b.tolist()] for x in a.tolist()]
    assert found.dtype == np.float32
    assert found.shape == (len(a), len(b))
    np.testing.assert_allclose(found, np.reshape(expected, found.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@given(a=matrices(4), b=matrices(4))
def test_pairwise_is_the_diagonal(name: Similarity, a: FloatArray, b: FloatArray) -> None:
    found = similarity_pairwise(a, b, name)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.diag(similarity(a, b, name)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@given(
    queries=matrices(2),
    documents=st.integers(0, 9).flatmap(matrices),
    top_k=st.integers(1, 12),
)
def test_search_is_a_stable_sort(
    name: Similarity, queries: FloatArray, documents: FloatArray, top_k: int
) -> None:
    hits = semantic_search(queries, documents, top_k=top_k, similarity_fn_name=name)
    scores = similarity(queries, documents, name).tolist()
    for found, row in zip(hits, scores, strict=True):
        order = sorted(range(len(documents)), key=lambda index: (-row[index], index))[:top_k]
        assert [hit.index for hit in found] == order
        assert [hit.score for hit in found] == [row[index] for index in order]


def test_search_in_steps_equals_search_of_each_query() -> None:
    generator = np.random.default_rng(3)
    queries = generator.standard_normal((ROWS_PER_STEP + 5, 4), np.float32)
    documents = generator.standard_normal((20, 4), np.float32)
    hits = semantic_search(queries, documents, top_k=3)
    assert len(hits) == len(queries)
    for query, found in zip(queries, hits, strict=True):
        (alone,) = semantic_search(query, documents, top_k=3)
        assert [hit.index for hit in found] == [hit.index for hit in alone]


def test_of_equal_documents_the_first_comes_first() -> None:
    (hits,) = semantic_search([1.0, 0.0], np.tile([[1.0, 1.0]], (50, 1)), top_k=3)
    assert [hit.index for hit in hits] == [0, 1, 2]


def test_hits_are_plain_numbers() -> None:
    ((hit,),) = semantic_search([[1, 0]], [[2, 0]], similarity_fn_name="dot")
    assert (type(hit.index), type(hit.score)) == (int, float)
    assert (hit.index, hit.score) == (0, 2.0)


@pytest.mark.parametrize("name", NAMES)
def test_zero_vectors_have_a_score(name: Similarity) -> None:
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert np.isfinite(similarity(zero, one, name)).all()
    assert similarity(zero, zero, name) == 0
    assert similarity_pairwise(zero, zero, name) == 0


def test_one_vector_counts_as_one_row() -> None:
    assert similarity([1, 2], [3, 4], "dot").tolist() == [[11.0]]
    assert similarity_pairwise([1, 2], [3, 4], "dot").tolist() == [11.0]


def test_bad_names_list_the_valid_ones() -> None:
    pattern = r"'jaccard'; expected one of \['cosine', 'dot', 'euclidean', 'manhattan'\]"
    bad: Any = "jaccard"
    for score in (similarity, similarity_pairwise):
        with pytest.raises(ValueError, match=pattern):
            score([1], [1], bad)
    with pytest.raises(ValueError, match=pattern):
        semantic_search([1], [1], similarity_fn_name=bad)
    with pytest.raises(ValueError, match=pattern):
        semantic_search(np.empty((0, 1)), [1], similarity_fn_name=bad)


@pytest.mark.parametrize("score", [similarity, similarity_pairwise])
def test_bad_shapes(score: Callable[..., FloatArray]) -> None:
    with pytest.raises(ValueError, match=r"of 2 and 3 components cannot be compared"):
        score(np.ones((1, 2)), np.ones((1, 3)), "dot")
    with pytest.raises(ValueError, match=r"shape \(1, 1, 2\); expected \(n, dimension\)"):
        score(np.ones((1, 1, 2)), np.ones((1, 2)), "dot")


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_list_has_no_rows(name: Similarity) -> None:
    two = np.ones((2, 3))
    assert similarity([], two, name).shape == (0, 2)
    assert similarity(two, [], name).shape == (2, 0)
    assert similarity([], [], name).shape == (0, 0)
    assert similarity_pairwise([], [], name).shape == (0,)
    assert semantic_search(two, [], similarity_fn_name=name) == [[], []]
    assert semantic_search([], two, similarity_fn_name=name) == []
    with pytest.raises(ValueError, match="of 3 and 4 components cannot be compared"):
        similarity(np.ones((0, 3)), np.ones((0, 4)), name)


@pytest.mark.parametrize("top_k", [1, 2, 3, 9])
def test_scores_that_are_nan_come_last(top_k: int) -> None:
    documents: Any = [[np.nan, 0], [1, 0], [-np.inf, 0], [2, 0], [np.nan, 0]]
    (hits,) = semantic_search([1, 0], documents, top_k=top_k, similarity_fn_name="dot")
    assert [hit.index for hit in hits] == [3, 1, 2, 0, 4][:top_k]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "^None is not an array of embeddings; pass what encode returns"),
        ("a text", "^these are not embeddings .* 'a text'.*; pass the array that encode returns"),
        (["a text"], "^these are not embeddings .* 'a text'.*; pass the array that encode"),
        ([[1], [1, 2]], "^these are not embeddings .*; pass the array that encode returns"),
    ],
)
def test_what_is_no_embedding(bad: Any, message: str) -> None:
    for score in (similarity, similarity_pairwise):
        with pytest.raises(TypeError, match=message):
            score(bad, np.ones((1, 2)), "dot")
        with pytest.raises(TypeError, match=message):
            score(np.ones((1, 2)), bad, "dot")
    with pytest.raises(TypeError, match=message):
        semantic_search(np.ones((1, 2)), bad)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="a has 2 rows and b 3"):
        similarity_pairwise(np.ones((2, 2)), np.ones((3, 2)), "dot")
    with pytest.raises(ValueError, match="top_k=0; expected at least 1"):
        semantic_search([1], [1], top_k=0)


@given(arrays.arrays(np.float32, (5, 4), elements=st.floats(-100, 100, width=32)))
def test_normalize_depends_only_on_its_row(rows: FloatArray) -> None:
    together = normalize(rows)
    assert together.dtype == np.float32
    for row, found in zip(rows, together, strict=True):
        assert normalize(row).tobytes() == normalize(row[None]).tobytes() == found.tobytes()
        length = math.sqrt(dot(row.tolist(), row.tolist()))
        np.testing.assert_allclose(found, row / max(length, 1e-12), rtol=1e-5)
