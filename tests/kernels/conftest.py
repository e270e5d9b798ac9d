"""Fixtures: the library, and each of its paths that this processor runs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from embedrt.kernels.library import Library
from embedrt_export import export_model
from sharing import made_once

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


@pytest.fixture(scope="session")
def minilm_int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM with its published weights, in int8."""
    return made_once(
        tmp_path_factory,
        "all-MiniLM-L6-v2-int8",
        lambda output: export_model("all-MiniLM-L6-v2", output=output, precision="int8"),
    )
