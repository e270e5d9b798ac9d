"""Tests that all code reads and writes text as UTF-8, regardless of the locale."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("runtime", "export", "benchmarks", "tests")

# Position of the mode argument in a function. A method has no file name before it.
MODES = {"open": 1, "fdopen": 1, "NamedTemporaryFile": 0, "TemporaryFile": 0}
BINARY_BY_DEFAULT = {"NamedTemporaryFile", "TemporaryFile"}
NO_FILES = {"os.open", "Bundle.open"}
CHILDREN = {"run", "Popen", "check_output", "check_call"}


def sources() -> list[str]:
    """Return the project's files, without the environments that the benchmarks create."""
    files = [file.relative_to(ROOT) for name in FOLDERS for file in (ROOT / name).rglob("*.py")]
    return sorted(str(file) for file in files if not any(p.startswith(".") for p in file.parts))


def unspecified(code: str) -> list[int]:
    """Return the lines that read or write text without an explicit encoding."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return sorted({call.lineno for call in calls if _is_text(call) and not _says_encoding(call)})


def _is_text(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if last in ("read_text", "write_text"):
        return last != name  # a method of Path
    if last in CHILDREN:
        switches = (_keyword(call, word) for word in ("text", "universal_newlines"))
        return any(isinstance(switch, ast.Constant) and switch.value for switch in switches)
    if last not in MODES or name in NO_FILES:
        return False
    of_a_path = last == "open" and name not in ("open", "io.open")
    place = MODES[last] - of_a_path
    mode = _keyword(call, "mode") or (call.args[place] if len(call.args) > place else None)
    if mode is None:
        return last not in BINARY_BY_DEFAULT
    return "b" not in ast.unparse(mode)


def _says_encoding(call: ast.Call) -> bool:
    return _keyword(call, "encoding") is not None


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


@pytest.mark.parametrize("file", sources())
def test_every_text_has_its_encoding(file: str) -> None:
    assert unspecified((ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "code",
    [
        "open('x')",
        "open('x', 'w')",
        "path.open()",
        "path.open('a')",
        "(folder / 'x').read_text()",
        "path.write_text('x')",
        "os.fdopen(3)",
        "subprocess.run(['x'], text=True)",
        "tempfile.NamedTemporaryFile('w')",
    ],
)
def test_calls_that_are_found(code: str) -> None:
    assert unspecified(f"pass\n{code}") == [2]


@pytest.mark.parametrize(
    "code",
    [
        "open('x', 'rb')",
        "open('x', encoding='utf-8')",
        "path.open('wb')",
        "path.open(mode='ab')",
        "path.read_text(encoding='utf-8-sig')",
        "os.fdopen(3, 'wb')",
        "os.open('x', 0)",
        "Bundle.open('x')",
        "read_text(path)",
        "subprocess.run(['x'])",
        "subprocess.run(['x'], text=True, encoding='utf-8')",
        "tempfile.NamedTemporaryFile()",
    ],
)
def test_calls_that_are_not_found(code: str) -> None:
    assert unspecified(code) == []


@pytest.mark.skipif(find_spec("ruff") is None, reason="ruff is not installed")
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_linter_finds_it_too(folder: str) -> None:
    options = ["--output-format", "concise", "--stdin-filename", f"{folder}/x.py"]
    found = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *options, "-"],
        cwd=ROOT,
        input="open('x').read()\n",
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert "unspecified-encoding" in found.stdout
