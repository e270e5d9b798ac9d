"""Fixtures: the library, and each of its paths that this processor runs."""

from __future__ import annotations

from importlib import import_module

import pytest

from embedrt.kernels.library import Library

PATHS = ("avx512-vnni", "avx512-bf16")


@pytest.fixture(scope="session")
def library() -> Library:
    """The library of the package embedrt-kernels."""
    return Library(import_module("embedrt_kernels").library())


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, library: Library) -> str:
    """Each path; those that this processor cannot run are skipped."""
    name: str = request.param
    fastest = library.path()
    if fastest is None or PATHS.index(name) > PATHS.index(fastest):
        pytest.skip(f"this processor does not run {name}")
    return name
