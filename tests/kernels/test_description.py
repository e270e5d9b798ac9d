"""Tests that a malformed description is an error, and never a crash."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedrt.kernels.library import Description, Library, LibraryError, describe
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
        library.run(model, np.array([[1, 2, 3]]), description.hidden)
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
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
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
