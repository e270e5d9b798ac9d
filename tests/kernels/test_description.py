"""Tests that a malformed description is an error, and never a crash."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedrt.kernels.library import MESSAGE_BYTES, Description, Library, LibraryError, describe
from kernels_twin import random_encoder

NUMBERS = st.one_of(
    st.sampled_from([-(2**63), -1, 0, 1, 2, 31, 32, 33, 63, 64, 65, 2**31, 2**62, 2**63 - 1]),
    st.integers(-(2**63), 2**63 - 1),
)
FLOATS = st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e-45, 3e38])


def places(structure: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where the numbers of a description are; data's addresses are not numbers."""
    found: list[tuple[Any, ...]] = []
    for name, _ in structure._fields_:
        value = getattr(structure, name)
        if isinstance(value, ctypes.Structure):
            found += places(value, (*prefix, name))
        elif name == "layer":
            found += places(value[0], (*prefix, name, 0))
        elif name != "data":
            found.append((*prefix, name))
    return found


def change(structure: Any, place: tuple[Any, ...], value: float) -> None:
    *way, name = place
    for step in way:
        structure = structure[step] if isinstance(step, int) else getattr(structure, step)
    kind = dict(structure._fields_)[name]
    if kind is not ctypes.c_float:
        size = 8 * ctypes.sizeof(kind)
        value = int(np.nan_to_num(value)) if isinstance(value, float) else value
        value %= 2**size
        if kind in (ctypes.c_int32, ctypes.c_int64) and value >= 2 ** (size - 1):
            value -= 2**size
    setattr(structure, name, value)


def attempt(library: Library, description: Description, path: str) -> str | None:
    """Create a model and run it; return the error."""
    try:
        model = library.create(description, path)
    except LibraryError as error:
        return str(error)
    try:
        library.run(model, np.array([1, 2, 3]), np.array([2, 1]), description.hidden)
    except LibraryError as error:
        return str(error)
    finally:
        library.destroy(model)
    return None


ENCODER = random_encoder(0, layers=2, outliers=3, distances=9, padding_id=1)
PLACES = places(describe(ENCODER))
SIZES = [place for place in PLACES if place[-1] == "bytes"]


@settings(
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(PLACES), st.one_of(NUMBERS, FLOATS)), min_size=1, max_size=3
    )
)
def test_changed_numbers(
    library: Library, path: str, changes: list[tuple[tuple[Any, ...], float]]
) -> None:
    description = describe(ENCODER)
    for place, value in changes:
        # More layers than there are cannot be told from the description.
        if place != ("layers",) or 0 <= value <= len(ENCODER.layers):
            change(description, place, value)
    attempt(library, description, path)


@pytest.mark.parametrize("place", SIZES, ids=lambda place: ".".join(map(str, place)))
def test_a_size_that_does_not_fit(library: Library, path: str, place: tuple[Any, ...]) -> None:
    """Every array must have the size that follows from the others."""
    for size in (1, 4, 2**40):
        description = describe(ENCODER)
        change(description, place, size)
        error = attempt(library, description, path)
        assert error is not None
        assert place[-2] in error


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("hidden", 33, "hidden and inner must be multiples of 32"),
        ("heads", 3, "heads must have 32 or 64 channels each"),
        ("distances", 8, "distances is even"),
        ("vocabulary", 0, "vocabulary is 0; expected 1 to"),
        ("positions", 10**6, "positions is 1000000"),
        ("padding_id", 50, "padding_id is 50"),
        ("pooling", 2, "pooling is 2"),
        ("layers", 0, "layers is 0"),
        ("attention_scale", float("nan"), "attention_scale is not a positive number"),
    ],
)
def test_messages(library: Library, path: str, name: str, value: float, why: str) -> None:
    description = describe(ENCODER)
    setattr(description, name, value)
    assert why in str(attempt(library, description, path))


def test_outliers_outside_of_the_input(library: Library, path: str) -> None:
    for channels, why in (([0, 64, 1], "is 64"), ([0, -1, 1], "is -1"), ([5, 2, 5], "twice")):
        description = describe(ENCODER)
        values = np.array(channels, np.int64)
        description.layer[0].up.outliers.data = values.ctypes.data
        assert why in str(attempt(library, description, path))


def test_an_unknown_path(library: Library) -> None:
    with pytest.raises(LibraryError, match="cannot run the path amx"):
        library.create(describe(ENCODER), "amx")


@pytest.fixture
def model(library: Library, path: str) -> Iterator[int]:
    """A model of `ENCODER`, which has 79 positions for tokens."""
    created = library.create(describe(ENCODER), path)
    yield created
    library.destroy(created)


def run_raw(
    library: Library, model: int, sizes: tuple[int, int, int], ids: Any, counts: Any
) -> tuple[int, str]:
    """Run with any numbers of tokens, of texts and of bytes; return the status and the message."""
    tokens, texts, embeddings_bytes = sizes
    embeddings = np.empty((max(1, len(counts)), ENCODER.hidden), np.float32)
    message = ctypes.create_string_buffer(300)
    status = library._library.embedrt_run(
        model, 2, ids.ctypes.data, tokens, counts.ctypes.data, texts, embeddings.ctypes.data,
        embeddings_bytes, None, None, message, len(message),
    )  # fmt: skip
    return status, message.value.decode()


@settings(
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    counts=st.lists(st.one_of(st.integers(1, 4), NUMBERS), min_size=1, max_size=6),
    difference=st.sampled_from([0, 0, -1, 1]),
)
def test_any_token_counts(library: Library, model: int, counts: list[int], difference: int) -> None:
    """Only counts that add up to the ids, and have positions, run."""
    sound = all(1 <= count < 80 for count in counts)
    total = sum(counts) + difference if sound else len(counts) + 3
    ids = np.ones(max(0, total), np.int64)
    sizes = (len(ids), len(counts), len(counts) * ENCODER.hidden * 4)
    status, message = run_raw(library, model, sizes, ids, np.array(counts, np.int64))
    assert (status == 0) == (sound and difference == 0), message
    assert bool(message) == bool(status)


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ([3, 0], "a text of 0 tokens; 1 to 79 have a position"),
        ([4, -1], "a text of -1 tokens"),
        ([80], "a text of 80 tokens"),
        ([2**63 - 1, 4, 1], "a text of 9223372036854775807 tokens"),
        ([2**62, 2**62, 2**62, 2**62, 3], "a text of 4611686018427387904 tokens"),
        ([1, 1], "texts of 2 tokens, and 5 ids"),
        ([3, 3], "texts of 6 tokens, and 5 ids"),
    ],
)
def test_messages_about_token_counts(
    library: Library, model: int, counts: list[int], why: str
) -> None:
    with pytest.raises(LibraryError, match=f"^{why}"):
        library.run(model, np.ones(5, np.int64), np.array(counts, np.int64), ENCODER.hidden)


def test_a_run_continues_only_with_its_batch(library: Library, model: int, path: str) -> None:
    """The rest of a paused run fits neither more tokens, nor fewer texts, nor another model."""
    pause, rest = ctypes.c_int32(1), ctypes.c_void_p()

    def run(model: int, counts: list[int]) -> bytes:
        token_counts = np.array(counts, np.int64)
        ids = np.ones(sum(counts), np.int64)
        embeddings = np.empty((len(counts), ENCODER.hidden), np.float32)
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        library._library.embedrt_run(
            model, 1, ids.ctypes.data, len(ids), token_counts.ctypes.data, len(counts),
            embeddings.ctypes.data, embeddings.nbytes, ctypes.byref(pause), ctypes.byref(rest),
            message, len(message),
        )  # fmt: skip
        return message.value

    two_groups = [70, 70, 70, 70, 1]
    other = library.create(describe(ENCODER), path)
    for wrong in [(other, two_groups), (model, [70] * 9)]:
        assert run(model, two_groups) == b""
        assert rest
        assert run(*wrong) == b"another batch than the one that paused"
        assert not rest
    for _ in range(3):  # the layers of the first group, and one of the second
        assert run(model, two_groups) == b""
    assert run(model, [1, 1, 1]) == b"another batch than the one that paused"
    assert not rest
    library.destroy(other)


@pytest.mark.parametrize(
    "sizes",
    [(3, 0), (3, -1), (0, 0), (-1, 1), (1, 2), (-(2**63), 1), (2**63 - 1, 1), (2**25, 2**25)],
)
def test_numbers_of_tokens_and_texts(library: Library, model: int, sizes: tuple[int, int]) -> None:
    """They are refused before the token counts are read."""
    tokens, texts = sizes
    one = np.ones(1, np.int64)
    status, message = run_raw(
        library, model, (*sizes, texts * ENCODER.hidden * 4 % 2**64), one, one
    )
    assert (status, message) == (1, f"a batch of {texts} texts and {tokens} tokens")


def test_the_size_of_the_result(library: Library, model: int) -> None:
    ids, counts = np.ones(3, np.int64), np.array([2, 1])
    right = 2 * ENCODER.hidden * 4
    assert run_raw(library, model, (3, 2, right), ids, counts) == (0, "")
    for size in (0, right - 1, right + 4, right // 2):
        status, message = run_raw(library, model, (3, 2, size), ids, counts)
        assert (status, message) == (1, "the result's memory has another size")
