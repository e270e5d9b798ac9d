"""Tests of embeddings in lower precision against literal definitions."""

from __future__ import annotations

import math
import warnings
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from embedrt import quantize_embeddings
from embedrt.postprocess import FEW_EMBEDDINGS, EmbeddingPrecision

FloatArray = NDArray[np.float32]
PRECISIONS = get_args(EmbeddingPrecision)
EMBEDDINGS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 20)),
    elements=st.floats(-2, 2, width=32),
)


def sample(rows: int = FEW_EMBEDDINGS, dimension: int = 12) -> FloatArray:
    return np.random.default_rng(7).standard_normal((rows, dimension), np.float32)


@given(EMBEDDINGS)
def test_floats_are_rounded(embeddings: FloatArray) -> None:
    assert quantize_embeddings(embeddings, "float32").tobytes() == embeddings.tobytes()
    halves = quantize_embeddings(embeddings, "float16")
    assert halves.dtype == np.float16
    assert halves.tolist() == [[float(np.float16(x)) for x in row] for row in embeddings]


@given(EMBEDDINGS)
def test_bits(embeddings: FloatArray) -> None:
    unsigned = quantize_embeddings(embeddings, "ubinary")
    signed = quantize_embeddings(embeddings, "binary")
    assert [unsigned.dtype.name, signed.dtype.name] == ["uint8", "int8"]
    assert unsigned.shape == (len(embeddings), math.ceil(embeddings.shape[1] / 8))
    for row, found in zip(embeddings.tolist(), unsigned.tolist(), strict=True):
        bits = "".join("1" if x > 0 else "0" for x in row)
        octets = [bits[start : start + 8].ljust(8, "0") for start in range(0, len(bits), 8)]
        assert found == [int(octet, 2) for octet in octets]
    assert signed.tolist() == (unsigned.astype(int) - 128).tolist()


def plain_level(x: float, low: float, high: float) -> int:
    step = (np.float32(high) - np.float32(low)) / np.float32(255) or np.float32(1)
    return min(255, max(0, math.floor((np.float32(x) - np.float32(low)) / step)))


@given(EMBEDDINGS, st.data())
def test_levels_of_given_ranges(embeddings: FloatArray, data: st.DataObject) -> None:
    dimension = embeddings.shape[1]
    bounds = arrays.arrays(np.float32, (2, dimension), elements=st.integers(-1, 1))
    ranges = np.sort(data.draw(bounds), axis=0)
    unsigned = quantize_embeddings(embeddings, "uint8", ranges=ranges)
    signed = quantize_embeddings(embeddings, "int8", ranges=ranges)
    assert [unsigned.dtype.name, signed.dtype.name] == ["uint8", "int8"]
    low, high = ranges.tolist()
    assert unsigned.tolist() == [
        [plain_level(x, low[i], high[i]) for i, x in enumerate(row)] for row in embeddings.tolist()
    ]
    assert signed.tolist() == (unsigned.astype(int) - 128).tolist()


def test_default_ranges_are_those_of_the_embeddings() -> None:
    embeddings = sample()
    ranges = np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])
    for precision in ("int8", "uint8"):
        found = quantize_embeddings(embeddings, precision)
        assert (found == quantize_embeddings(embeddings, precision, ranges=ranges)).all()
        information = np.iinfo(found.dtype)
        assert found.min(axis=0).tolist() == [information.min] * 12
        assert found.max() == information.max


def test_a_constant_component_is_its_lowest_level() -> None:
    embeddings = np.ones((FEW_EMBEDDINGS, 3), np.float32)
    assert set(quantize_embeddings(embeddings, "uint8").ravel().tolist()) == {0}
    assert set(quantize_embeddings(embeddings, "int8").ravel().tolist()) == {-128}


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_ranges_of_few_embeddings_cause_a_warning(precision: EmbeddingPrecision) -> None:
    with pytest.warns(UserWarning, match=rf"^{precision} ranges are taken from only 99") as caught:
        quantize_embeddings(sample(FEW_EMBEDDINGS - 1), precision)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("precision", ["int8", "uint8"])
@pytest.mark.parametrize("one", [sample()[0], sample(1)], ids=["vector", "row"])
def test_one_embedding_has_no_ranges(precision: EmbeddingPrecision, one: FloatArray) -> None:
    with pytest.raises(ValueError, match=rf"^one embedding has no ranges for {precision}; pass"):
        quantize_embeddings(one, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_lists_are_embeddings(precision: EmbeddingPrecision) -> None:
    embeddings, ranges = sample(3), np.array([[-1.0] * 12, [1.0] * 12], np.float32)
    expected = quantize_embeddings(embeddings, precision, ranges=ranges)
    for rows in (embeddings.tolist(), list(embeddings)):
        found = quantize_embeddings(rows, precision, ranges=ranges.tolist())
        assert found.dtype == expected.dtype
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (None, TypeError, "^embeddings are object; expected floats"),
        (["text"], TypeError, "^embeddings are <U4; expected floats"),
        (np.ones((2, 3), np.int8), TypeError, "^embeddings are int8; expected floats"),
        (np.ones((2, 3), np.uint8), TypeError, "^embeddings are uint8; expected floats"),
        (np.ones((1, 2, 3)), ValueError, r"^embeddings of shape \(1, 2, 3\); expected"),
    ],
)
def test_what_is_no_embedding(
    precision: EmbeddingPrecision, bad: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        quantize_embeddings(bad, precision)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (np.zeros(2), r"^ranges of shape \(2,\); expected \(2, 12\)"),
        (np.zeros((3, 12)), r"^ranges of shape \(3, 12\); expected \(2, 12\)"),
        (np.zeros((2, 11)), r"^ranges of shape \(2, 11\); expected \(2, 12\)"),
        (np.full((2, 12), np.nan), r"^not all ranges are finite; expected"),
    ],
)
def test_bad_ranges(ranges: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantize_embeddings(sample(3), "int8", ranges=ranges)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_warning_otherwise(precision: EmbeddingPrecision) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantize_embeddings(sample(), precision)
        quantize_embeddings(sample(1), precision, ranges=sample(2))
        assert len(quantize_embeddings(sample(0), precision)) == 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_vector_is_the_row_of_many(precision: EmbeddingPrecision) -> None:
    ranges = np.array([[-1.0] * 12, [1.0] * 12], np.float32)
    many = quantize_embeddings(sample(3), precision, ranges=ranges)
    one = quantize_embeddings(sample(3)[1], precision, ranges=ranges)
    assert one.tobytes() == many[1].tobytes()


def test_bad_precision_lists_the_valid_ones() -> None:
    bad: Any = "int4"
    with pytest.raises(
        ValueError, match=r"^precision='int4'; expected one of \['float32', 'float16'"
    ):
        quantize_embeddings(sample(), bad)


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p != "float16"])
def test_equals_sentence_transformers(precision: EmbeddingPrecision) -> None:
    util = pytest.importorskip("sentence_transformers.util")
    embeddings, ranges = sample(), np.stack([-np.ones(12), np.ones(12)]).astype(np.float32)
    for given_ranges in (None, ranges):
        expected = util.quantize_embeddings(embeddings, precision, ranges=given_ranges)
        found = quantize_embeddings(embeddings, precision, ranges=given_ranges)
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()
