"""Fixtures for all tests: a bundle of all-MiniLM-L6-v2 with its published weights."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import pytest

from embedrt import Embedder
from sharing import made_once

# Shells start background jobs with interrupts ignored, and `nohup` ignores the end of the terminal.
# Child processes inherit that, which would break tests that send these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Some environments have no hypothesis, and none of the tests that need it. An example may take any
# time, and so may its generation, on a machine with other work.
if find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("any machine")

# These tests need a separate environment: make test-cluster, make kernels.
collect_ignore = [
    name for name, needed in (("cluster", "ray"), ("kernels", "embedrt_kernels"))
    if find_spec(needed) is None
]  # fmt: skip

GIVEN_BUNDLE = "EMBEDRT_TEST_BUNDLE"
GIVEN_INT8 = "EMBEDRT_TEST_BUNDLE_INT8"
RARE = ("slow", "alone")
REQUIRED = os.environ.get("EMBEDRT_KERNELS") == "require"  # tests run in the kernels

MODEL = "all-MiniLM-L6-v2"
SLOW_SECONDS = 2400  # timeout of a slow test: minutes of work, on a busy machine


def pytest_report_header() -> list[str]:
    """Say at the start of a run if the faster engine is not there, and its tests are left out."""
    if find_spec("embedrt_kernels"):
        return []
    return ["native kernels: not installed, so tests/kernels is left out; see make kernels"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where a run is for the slow tests, or for those alone, import only the files with such tests.

    Importing all others takes longer than some of these runs.
    """
    wanted = config.option.markexpr.partition(" ")[0]
    if wanted not in RARE:
        return None
    files = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    return None if any(_has(file, wanted) for file in files) else True


@cache
def _has(file: Path, name: str) -> bool:
    """Whether a file of tests gives any test this mark."""
    return file.suffix == ".py" and f"pytest.mark.{name}" in file.read_text(encoding="utf-8")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give slow tests more time before they count as hanging.

    A file must name its rare marks, or `pytest_ignore_collect` would leave its tests out. Where
    kernels are required, leave the tests of tiny bundles out, which run in ONNX Runtime.
    """
    if REQUIRED:
        run = [item for item in items if "minilm" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(run)])
        items[:] = run
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
        for name in RARE:
            if item.get_closest_marker(name) and not _has(item.path, name):
                raise pytest.UsageError(f"{item.path} must say pytest.mark.{name} itself")


def pytest_collection_finish() -> None:
    """Leave what was imported, a million objects, out of the garbage collections of the tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of all-MiniLM-L6-v2: the one in EMBEDRT_TEST_BUNDLE, or a new export."""
    given = os.environ.get(GIVEN_BUNDLE)
    if REQUIRED:
        _check_kernels(given)
    return _given_or_exported(given, "fp32", tmp_path_factory)


@pytest.fixture(scope="session")
def minilm_int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in int8: the bundle in EMBEDRT_TEST_BUNDLE_INT8, or a new export."""
    return _given_or_exported(os.environ.get(GIVEN_INT8), "int8", tmp_path_factory)


def _given_or_exported(
    given: str | None, precision: Literal["fp32", "int8"], factory: pytest.TempPathFactory
) -> Path:
    if given:
        return Path(given).absolute()
    from embedrt_export import export_model

    return made_once(
        factory,
        f"{MODEL}-{precision}",
        lambda output: export_model(MODEL, output=output, precision=precision),
    )


def _check_kernels(given: str | None) -> None:
    """Fail unless the kernels run the given bundle; skip if the processor has none."""
    from embedrt.kernels.library import Library

    if Library(import_module("embedrt_kernels").library()).path() is None:
        pytest.skip("there are no kernels for this processor")
    assert given, f"kernels run no bundle in fp32: set {GIVEN_BUNDLE} to one in int8"
    with Embedder.load(given) as embedder:
        assert embedder.stats().engine.startswith("kernels ")


@pytest.fixture(scope="session")
def embedder(minilm: Path) -> Iterator[Embedder]:
    """The bundle of all-MiniLM-L6-v2, loaded."""
    with Embedder.load(minilm) as embedder:
        yield embedder
