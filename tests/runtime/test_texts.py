"""Tests of which values are accepted as texts, and of refusals before any work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedrt.text.inputs import as_batch, as_text, start_of, stream, well_formed
from odd_texts import ANYTHING, plainly_well_formed

NOT_TEXTS = st.one_of(
    st.none(),
    st.binary(),
    st.integers(),
    st.floats(),
    st.lists(st.text(), max_size=2),
    st.tuples(st.text()),
    st.dictionaries(st.text(), st.text(), max_size=1),
)


@given(st.lists(st.text(), max_size=5), NOT_TEXTS, st.lists(st.text(), max_size=5))
def test_bad_element_is_named_by_its_index(
    before: list[str], bad: object, after: list[str]
) -> None:
    with pytest.raises(TypeError, match=rf"^texts\[{len(before)}\] is .*must be a str$"):
        as_batch([*before, bad, *after])
    with pytest.raises(TypeError, match=rf"^texts\[{len(before)}\] is .*must be a str$"):
        list(stream([*before, bad, *after]))


@pytest.mark.parametrize(
    ("bad", "described"),
    [
        (None, "None"),
        (float("nan"), r"NaN \(a missing value\?\)"),
        (np.float64("nan"), r"NaN \(a missing value\?\)"),
        (1.5, "a float"),
        (7, "an int"),
        (b"bytes", "a bytes"),
        (["nested"], "a list"),
    ],
)
def test_bad_element_is_described(bad: object, described: str) -> None:
    with pytest.raises(TypeError, match=rf"^texts\[1\] is {described}; every text must be a str$"):
        as_batch(["good", bad])


@pytest.mark.parametrize(
    ("texts", "described"),
    [
        (None, "None"),
        (1, "an int"),
        ("one text", "a str"),
        (b"bytes", "a bytes"),
        (bytearray(b"bytes"), "a bytearray"),
        (memoryview(b"bytes"), "a memoryview"),
        ({"a", "b"}, "a set"),
        (frozenset({"a"}), "a frozenset"),
        ({"a": "b"}, "a dict"),
        ({"a": "b"}.keys(), "a dict_keys"),
        (np.array("text"), "a ndarray of 0 dimensions"),
        (np.array([["a", "b"]]), "a ndarray of 2 dimensions"),
    ],
)
def test_values_without_order_or_texts_are_refused(texts: Any, described: str) -> None:
    with pytest.raises(TypeError, match=rf"^texts is {described}; pass a str or"):
        as_batch(texts)


def test_views_of_a_mapping() -> None:
    """Keys have the type of a set and are refused with advice; values are an accepted batch."""
    texts = {"a": "b", "c": "d"}
    assert as_batch(texts.values()) == ["b", "d"]
    with pytest.raises(
        TypeError, match=r"^texts is a dict_keys; .* ordered iterable of str: list\("
    ):
        as_batch(texts.keys())
    with pytest.raises(TypeError, match=r"^texts is a dict_items; .* ordered iterable of str$"):
        as_batch(texts.items())


def test_stream_refuses_a_single_text() -> None:
    with pytest.raises(TypeError, match=r"pass \[text\]"):
        next(stream("text"))


def test_stream_reads_lazily() -> None:
    def texts() -> Iterator[str]:
        yield "first"
        raise AssertionError("read ahead")

    assert next(stream(texts())) == "first"


@pytest.mark.parametrize(
    "kind", [list, tuple, iter, np.array, lambda texts: dict.fromkeys(texts, 0)]
)
def test_ordered_iterables_are_batches(kind: Any) -> None:
    texts = ["b", "a", "ü"]
    batch = kind(texts)
    if isinstance(batch, dict):
        batch = (text for text in batch)
    assert as_batch(batch) == texts


def test_numpy_strings_become_plain_ones() -> None:
    for array in (np.array(["a", "b"]), np.array(["a", "b"], object)):
        assert [type(text) for text in as_batch(array)] == [str, str]
    assert as_text(np.str_("a")) == "a"


def test_numpy_bytes_and_numbers_are_refused() -> None:
    for array in (np.array([b"a"]), np.array([1]), np.array([1.5])):
        with pytest.raises(TypeError, match=r"^texts\[0\] is an? "):
            as_batch(array)


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    texts = ["b", "a"]
    assert as_batch(pandas.Series(texts, index=[7, 3])) == texts
    assert as_batch(pandas.Index(texts)) == texts
    assert as_batch(pandas.Categorical(texts)) == texts
    assert as_batch(pandas.Series(texts, dtype="string")) == texts
    with pytest.raises(TypeError, match=r"^texts\[1\] is NaN \(a missing value\?\)"):
        as_batch(pandas.Series(["a", float("nan")], dtype=object))
    with pytest.raises(TypeError, match=r"^texts\[1\] is a NAType"):
        as_batch(pandas.Series(["a", None], dtype="string"))
    with pytest.raises(TypeError, match=r"^texts is a DataFrame of 2 dimensions"):
        as_batch(pandas.DataFrame({"column": texts}))


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view"])
def test_pyarrow(kind: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    kind = getattr(pyarrow, kind)()
    assert as_batch(pyarrow.array(["b", "a"], kind)) == ["b", "a"]
    assert as_batch(pyarrow.chunked_array([["b"], [], ["a"]], kind)) == ["b", "a"]
    with pytest.raises(TypeError, match=r"^texts\[1\] is None"):
        as_batch(pyarrow.array(["a", None], kind))


def test_pyarrow_tables_are_refused() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(TypeError, match=r"^texts\[0\] is a dict"):
        as_batch(pyarrow.table({"column": ["a"]}))


@given(ANYTHING)
@example("\ud83d\ude00")
@example("a\ud83d")
@example("\ude00\ud83d")
@example("\ud83d\ud83d\ude00")
@example("\ufeffa\ud800")
def test_surrogates_are_joined_or_replaced(text: str) -> None:
    assert well_formed(text) == plainly_well_formed(text)
    assert as_batch([text]) == [plainly_well_formed(text)]


@given(st.text())
def test_well_formed_text_is_left_alone(text: str) -> None:
    assert well_formed(text) is text


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("", "''"),
        ("it's", '"it\'s"'),
        ("a\x00\u202eb\n", r"'a\x00\u202eb\n'"),
        ("x" * 40, repr("x" * 40)),
        ("x" * 41, repr("x" * 40 + "…")),
    ],
)
def test_quotes_in_messages(text: str, quoted: str) -> None:
    """Characters that would affect a terminal are escaped."""
    assert start_of(text) == quoted
