"""Which room of the benchmarks imports which, and that the commands start."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.checkout import FOLDER, ROOT

# A room may import the rooms of the levels below its own, and itself.
LEVELS = {"machine": 1, "contenders": 1, "preparations": 1, "harness": 2, "report": 3}
COMMANDS = {"run", "roofline", "soak"}
LONGEST = 400  # lines


def level(module: str) -> int:
    """Of ``benchmarks.report.tables``: 3. Shared modules are below all rooms, commands above."""
    room = [*module.split("."), ""][1]
    return 4 if room in COMMANDS else LEVELS.get(room, 0)


def room(module: str) -> str:
    return module.split(".")[1] if level(module) in LEVELS.values() else ""


def imports(file: Path) -> Iterator[str]:
    """Every module of the benchmarks that a file imports, at any depth."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] == "benchmarks")


def upward(folder: Path) -> list[str]:
    """Imports that point up, or to another room of the same level."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        own = ".".join(("benchmarks", *file.relative_to(folder).with_suffix("").parts))
        for other in imports(file):
            aside = level(own) == level(other) and room(own) != room(other)
            if level(own) < level(other) or aside:
                found.append(f"{own} imports {other}")
    return found


def test_no_import_between_rooms_points_up() -> None:
    assert upward(FOLDER) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("harness/plan.py", "from benchmarks.report.tables import table"),
        ("machine/soak.py", "def f():\n    import benchmarks.harness.rows"),
        ("machine/soak.py", "from benchmarks.contenders import Setup"),
        ("statistics.py", "from benchmarks import machine"),
        ("report/tables.py", "import benchmarks.run"),
    ],
)
def test_an_import_that_points_up_is_found(tmp_path: Path, module: str, line: str) -> None:
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text(line, encoding="utf-8")
    (tmp_path / "report").mkdir(exist_ok=True)
    (tmp_path / "report" / "fine.py").write_text(
        "from benchmarks.harness import rows", encoding="utf-8"
    )
    (found,) = upward(tmp_path)
    assert found.startswith("benchmarks." + module.removesuffix(".py").replace("/", "."))


def test_no_module_is_long() -> None:
    lengths = {
        file: len(file.read_text(encoding="utf-8").splitlines()) for file in FOLDER.rglob("*.py")
    }
    assert {file: lines for file, lines in lengths.items() if lines > LONGEST} == {}


def foreign(module: str) -> set[str]:
    """Packages outside the standard library that a module of the harness imports."""
    script = f"import sys; before = {{*sys.modules}}; import benchmarks.harness.{module}"
    process = subprocess.run(
        [sys.executable, "-c", f"{script}; print(*sys.modules.keys() - before)"],
        check=True, cwd=ROOT, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    loaded = {name.split(".")[0] for name in process.stdout.split()}
    return loaded - {*sys.stdlib_module_names, "benchmarks"}


def test_what_runs_in_other_environments_needs_only_the_standard_library() -> None:
    assert foreign("worker") == foreign("environments") == set()
    assert "embedrt" in foreign("rows")


@pytest.mark.parametrize("command", ["run", "report", "report.readme_figures", "roofline", "soak"])
def test_commands_start(command: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{command}", "--help"],
        check=True, cwd=ROOT, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert process.stdout.startswith(f"usage: benchmarks.{command} ")
