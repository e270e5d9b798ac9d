"""Tests of the imports of the benchmarks' modules, and that the commands start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.checkout import ROOT


def foreign(module: str) -> set[str]:
    """Return the packages outside the standard library that a module of the harness imports."""
    script = f"import sys; before = {{*sys.modules}}; import benchmarks.harness.{module}"
    process = subprocess.run(
        [sys.executable, "-c", f"{script}; print(*sys.modules.keys() - before)"],
        check=True, cwd=ROOT, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    loaded = {name.split(".")[0] for name in process.stdout.split()}
    return loaded - {*sys.stdlib_module_names, "benchmarks"}


def test_modules_run_in_other_environments_import_only_the_standard_library() -> None:
    assert foreign("worker") == foreign("environments") == set()
    assert "embedrt" in foreign("rows")


@pytest.mark.parametrize(
    "command",
    ["run", "report", "report.readme_figures", "roofline", "soak", "engine", "beside_openvino"],
)
def test_commands_start(command: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{command}", "--help"],
        check=True, cwd=ROOT, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert process.stdout.startswith(f"usage: benchmarks.{command} ")
