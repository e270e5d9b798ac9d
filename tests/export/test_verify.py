"""Tests of ``embedrt verify --against``, and of error messages on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sentence_transformers

from comparison import Pair
from embedrt.cli import main
from model_folders import make_small, write_json


def test_verify_against_the_original(
    exported: Callable[[str], Pair], capsys: pytest.CaptureFixture[str]
) -> None:
    pair = exported("distilbert")
    assert main(["verify", str(pair.bundle), "--against", str(pair.folder)]) == 0
    captured = capsys.readouterr()
    assert f"against sentence-transformers {sentence_transformers.__version__} on" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    "options", [{"seed": 1}, {"pooling": "cls"}, {"tail": []}, {"pooling": ("cls", "max")}]
)
def test_verify_against_another_model(
    exported: Callable[[str], Pair],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, object],
) -> None:
    folder = make_small(tmp_path / "model", "distilbert", **options)  # type: ignore[arg-type]
    assert main(["verify", str(exported("distilbert").bundle), "--against", str(folder)]) == 1
    assert_one_line(capsys.readouterr().err)


def test_verify_against_nothing(
    exported: Callable[[str], Pair], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = str(tmp_path / "missing")
    assert main(["verify", str(exported("bert").bundle), "--against", against]) == 1
    assert_one_line(capsys.readouterr().err)


def test_export_of_an_unknown_architecture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message is one line, although those of other libraries have many."""
    folder = make_small(tmp_path / "model", "bert")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", config | {"model_type": "hypercube"})
    assert main(["export", str(folder), "--output", str(tmp_path / "bundle")]) == 1
    assert "hypercube" in assert_one_line(capsys.readouterr().err)


def assert_one_line(err: str) -> str:
    (line,) = [line for line in err.splitlines() if not line.startswith("reading ")]
    assert line.startswith("embedrt: ")
    return line
