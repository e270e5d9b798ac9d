"""`SparseRows` and their scores, beside dense arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from embedrt import similarity as dense
from embedrt.sparse_rows import SparseRows, largest, similarity, similarity_pairwise, terms_of

VALUES = st.sampled_from([0, 0, 0, 0.25, 0.5, 1, 2, 3, -1]).map(np.float32)
DIMENSION = 9


def rows(count: int) -> st.SearchStrategy[Any]:
    return arrays(np.float32, (count, DIMENSION), elements=VALUES)


def sparse(array: Any) -> SparseRows:
    return SparseRows.of(terms_of(array), array.shape[1])


@given(st.integers(0, 5).flatmap(rows))
def test_rows_are_those_of_the_array(array: Any) -> None:
    made = sparse(array)
    assert np.array_equal(made.to_dense(), array)
    assert made.shape == array.shape
    assert len(made) == len(list(made)) == len(array)
    for row, expected in zip(made, array, strict=True):
        assert np.array_equal(row.to_dense(), expected)
        assert row.indices.tolist() == np.flatnonzero(expected).tolist()
    if len(array):
        assert np.array_equal(made[-1].to_dense(), array[-1])


@given(rows(3), rows(4), st.sampled_from(["dot", "cosine", "euclidean", "manhattan"]))
def test_scores_are_those_of_the_arrays(a: Any, b: Any, name: Any) -> None:
    found = similarity(sparse(a), sparse(b), name)
    # The root of what rounding leaves of a difference.
    assert np.allclose(
        found, dense.similarity(a, b, name), atol=1e-3 if name == "euclidean" else 1e-5
    )
    pairs = similarity_pairwise(sparse(a), sparse(b[:3]), name)
    assert np.array_equal(pairs, np.diag(found[:, :3]))


@given(rows(1), st.integers(1, DIMENSION + 2))
def test_the_largest_magnitudes_are_kept(array: Any, most: int) -> None:
    (terms,) = terms_of(array)
    kept = largest(terms, most)
    assert len(kept) == min(most, len(terms))
    assert (np.diff(kept["index"]) > 0).all()
    left = np.setdiff1d(terms["index"], kept["index"])
    values = np.abs(array[0])
    least = values[kept["index"]].min(initial=np.inf)
    for index in left:
        assert values[index] <= least
        equal = kept["index"][values[kept["index"]] == values[index]]
        assert (equal < index).all()  # of equal ones, those that come first


@pytest.mark.parametrize("bad", [None, "w1", np.eye(2), [1.0]])
def test_what_is_no_rows(bad: Any) -> None:
    made = sparse(np.eye(2, dtype=np.float32))
    for a, b in ((made, bad), (bad, made)):
        with pytest.raises(TypeError, match=r"^expected SparseRows or a SparseRow, .*; got "):
            similarity(a, b, "dot")


@pytest.mark.parametrize("bad", ["0", 0.0, None, slice(0, 1)])
def test_what_is_no_index(bad: Any) -> None:
    with pytest.raises(TypeError, match="object cannot be interpreted as an integer"):
        sparse(np.eye(2, dtype=np.float32))[bad]


def test_an_unknown_score() -> None:
    made = sparse(np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match=r"^similarity='maxsim'; expected one of"):
        similarity(made, made, "maxsim")  # type: ignore[arg-type]
