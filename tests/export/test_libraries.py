"""Tests of the exporter's requirements, and of what other libraries write to a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from comparison import Pair

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
STAGES = re.compile(
    r"reading \S+ from \S+|tracing \w+ by [\w-]+ [\d.]+|calibrating int8 on \d+ texts|rejected .*|"
    r"int8 scheme \w+: .*|writing a (fused|traced) graph of \d+ bytes|"
    r"running the texts of the comparison in sentence-transformers [\d.]+|"
    r"comparing the bundle with sentence-transformers [\d.]+|it agrees: .*"
)
SETTINGS = ("HF_", "TRANSFORMERS_", "TQDM_", "PYTHONWARNINGS", "TOKENIZERS_")

IMPORTS = """
import sys
from pathlib import Path

from embedrt_export import export_model

export_model(sys.argv[1], output=Path(sys.argv[2]))
print("optimum" in sys.modules)
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


@pytest.mark.parametrize("family", ["bert", "big_bird"])
def test_optimum_is_imported_by_a_model_that_needs_it(
    exported: Callable[[str], Pair], family: str, tmp_path: Path
) -> None:
    arguments = map(str, (exported(family).folder, tmp_path / "bundle"))
    command = [sys.executable, "-c", IMPORTS, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    # Where PyTorch's exporter is installed, it carries big_bird.
    imported = family == "big_bird" and installed("optimum-onnx") and not installed("onnxscript")
    assert ended.stdout.split()[-1] == str(imported)


def on_a_terminal(*arguments: str | Path) -> list[str]:
    """Run the command with a terminal as its stderr; return the lines that it wrote there."""
    terminal, theirs = os.openpty()
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS)}
    with subprocess.Popen(
        [sys.executable, "-m", "embedrt", *map(str, arguments)],
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
    return written.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize(("family", "precision"), [("bert", "int8"), ("big_bird", "fp32")])
def test_an_export_writes_only_our_lines(
    exported: Callable[[str], Pair], family: str, precision: str, tmp_path: Path
) -> None:
    folder = exported(family).folder
    lines = on_a_terminal(
        "export", folder, "--precision", precision, "--output", tmp_path / "bundle"
    )
    assert len(lines) >= 4
    assert [line for line in lines if not STAGES.fullmatch(line)] == []


def test_a_comparison_writes_nothing(exported: Callable[[str], Pair]) -> None:
    pair = exported("bert")
    assert on_a_terminal("verify", pair.bundle, "--against", pair.folder) == []
