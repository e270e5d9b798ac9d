"""Fixtures: the library, and each of its paths that this processor runs."""

from __future__ import annotations

import os
from importlib import import_module

import numpy as np
import pytest

from embedrt.kernels.choose import PATH_VARIABLE
from embedrt.kernels.library import Library, LibraryError

PATHS = ("avx512-vnni", "avx512-bf16", "amx-int8")
EMULATED = "amx-int8-emulated"  # in builds for tests, on processors that run avx512-bf16
NAMED = os.environ.get(PATH_VARIABLE)


@pytest.fixture(scope="session")
def library() -> Library:
    """The library of the package embedrt-kernels."""
    return Library(import_module("embedrt_kernels").library())


@pytest.fixture(params=[NAMED] if NAMED else PATHS)
def path(request: pytest.FixtureRequest, library: Library) -> str:
    """Each path, or the one that is named; those that this processor cannot run are skipped."""
    name: str = request.param
    needed = "avx512-bf16" if name == EMULATED else name
    try:
        library.apply(needed, 0, np.zeros(1, np.float32))
    except LibraryError:
        pytest.skip(f"this processor does not run {needed}")
    return name
