"""Tests of the exporter's requirements, and of what other libraries write to a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import pytest

from comparison import Pair
from model_folders import BEFORE_5

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
STAGES = re.compile(
    r"reading \S+ from \S+|tracing \w+ by [\w-]+ [\d.]+|calibrating int8 on \d+ texts|rejected .*|"
    r"int8 scheme \w+: .*|writing a (fused|traced) graph of \d+ bytes|"
    r"running the texts of the comparison in sentence-transformers [\d.]+|"
    r"comparing the bundle with sentence-transformers [\d.]+|the bundle agrees: .*"
)
SETTINGS = ("HF_", "TRANSFORMERS_", "TQDM_", "PYTHONWARNINGS", "TOKENIZERS_")

IMPORTS = """
import sys
from pathlib import Path

from embedrt_export import export_model

export_model(sys.argv[1], output=Path(sys.argv[2]))
print("optimum" in sys.modules)
"""

END = "the end of a command"
COMMANDS = f"""
import json, sys
from embedrt.cli import main

for command in json.loads(sys.argv[1]):
    assert main(command) == 0
    print({END!r}, file=sys.stderr, flush=True)
"""


def installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def test_export_extra_downgrades_no_library() -> None:
    """The extra has no upper bounds, and does not include optimum, which limits transformers."""
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    for requirement in extras["optional-dependencies"]["export"]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+", requirement)
        assert not requirement.startswith("optimum")


@pytest.mark.skipif(not installed("optimum-onnx"), reason="optimum is not installed")
@pytest.mark.parametrize("family", ["bert", "big_bird"])
def test_optimum_is_imported_by_a_model_that_needs_it(
    exported: Callable[[str], Pair], family: str, tmp_path: Path
) -> None:
    arguments = map(str, (exported(family).folder, tmp_path / "bundle"))
    command = [sys.executable, "-c", IMPORTS, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    # Where PyTorch's exporter is installed, it carries big_bird.
    imported = family == "big_bird" and not installed("onnxscript")
    assert ended.stdout.split()[-1] == str(imported)


def on_a_terminal(*commands: Sequence[str | Path]) -> list[list[str]]:
    """Run commands in a new process with a terminal as its stderr; return what each wrote there."""
    terminal, theirs = os.openpty()
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS)}
    given = json.dumps([[*map(str, command)] for command in commands])
    with subprocess.Popen(
        [sys.executable, "-c", COMMANDS, given],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=surroundings,
    ) as process:
        os.close(theirs)
        written = b""
        try:
            while block := os.read(terminal, 4096):
                written += block
        except OSError:  # Linux raises this when no process has the terminal open any more
            pass
        os.close(terminal)
        assert process.stdout is not None
        process.stdout.read()
    assert process.returncode == 0, written.decode()
    *parts, after = written.decode().replace("\r\n", "\n").split(END + "\n")
    assert after == ""
    return [part.splitlines() for part in parts]


# Slow: a new process with three commands. `make test-optimum` runs it beside transformers 4.
@pytest.mark.parametrize(
    "tracing", [pytest.param("big_bird", marks=() if BEFORE_5 else pytest.mark.slow)]
)
def test_an_export_writes_only_our_lines_and_a_comparison_nothing(
    exported: Callable[[str], Pair], tmp_path: Path, tracing: str
) -> None:
    """What a library writes at its first use is written by the comparison, which is the first."""
    bert, traced = exported("bert"), exported(tracing).folder
    comparison, *exports = on_a_terminal(
        ["verify", bert.bundle, "--against", bert.folder],
        ["export", bert.folder, "--precision", "int8", "--output", tmp_path / "int8"],
        ["export", traced, "--precision", "fp32", "--output", tmp_path / "fp32"],
    )
    assert comparison == []
    for lines in exports:
        assert len(lines) >= 4
        assert [line for line in lines if not STAGES.fullmatch(line)] == []
