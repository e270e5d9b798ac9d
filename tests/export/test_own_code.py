"""Tests that no code of a model's authors (``auto_map``) is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comparison import Pair, assert_agrees
from embedrt import Bundle
from embedrt.cli import main
from embedrt.errors import UnsupportedModelError
from embedrt_export import export_model
from model_folders import change_json, make_small

THEIRS = {"AutoConfig": "theirs.TheirConfig", "AutoModel": "somebody/repo--theirs.BertModel"}
TEXTS = ["", "How many people live in London?"]


def with_code(folder: Path, code: object = THEIRS, **changes: object) -> Path:
    make_small(folder, "bert")
    change_json(folder / "config.json", auto_map=code, **changes)
    (folder / "theirs.py").write_text("raise SystemExit('run')", encoding="utf-8")
    return folder


def refusal(folder: Path, *, ignore_remote_code: bool = False) -> str:
    with pytest.raises(UnsupportedModelError) as caught:
        export_model(
            str(folder),
            output=folder.with_name("bundle"),
            ignore_remote_code=ignore_remote_code,
        )
    message = str(caught.value)
    assert "trust_remote_code" not in message
    assert len(message) < 600
    assert not folder.with_name("bundle").exists()
    return message


def test_a_known_architecture_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    folder = with_code(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"none")
    message = refusal(folder)
    for words in (*THEIRS.values(), "own bert may compute something else", "--ignore-remote-code"):
        assert words in message


@pytest.mark.parametrize("ignore", [True, False])
def test_an_unknown_architecture_is_refused_whatever_is_ignored(
    tmp_path: Path, *, ignore: bool
) -> None:
    folder = with_code(tmp_path / "model", model_type="theirs")
    message = refusal(folder, ignore_remote_code=ignore)
    assert "transformers does not support the architecture theirs, and" in message
    assert "--ignore-remote-code" not in message


def test_ignored_code_is_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = with_code(tmp_path / "model")
    bundle = export_model(str(folder), output=tmp_path / "bundle", ignore_remote_code=True)
    assert "which is ignored" in caplog.text
    assert Bundle.open(bundle).manifest.source.ignored_code == tuple(THEIRS.values())
    card = (bundle / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in card for name in THEIRS.values())
    assert_agrees(Pair(folder, bundle), TEXTS)


@pytest.mark.parametrize(
    "code",
    [
        {},
        {"AutoModelForCausalLM": "theirs.TheirLanguageModel", "AutoTokenizer": ["theirs.T", None]},
        {"AutoModel": "transformers.models.bert.modeling_bert.BertModel"},
    ],
)
def test_code_that_sentence_transformers_would_not_run(tmp_path: Path, code: object) -> None:
    folder = with_code(tmp_path / "model", code)
    manifest = Bundle.open(export_model(str(folder), output=tmp_path / "bundle")).manifest
    assert manifest.source.ignored_code == ()
    assert "ignored_code" not in json.loads(manifest.to_json())["source"]


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = with_code(tmp_path / "model")
    capsys.readouterr()
    command = ["export", str(folder), "--output", "bundle"]
    assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()[1:]
    assert line.startswith("embedrt: ")
    assert "--ignore-remote-code" in line
    assert main([*command, "--ignore-remote-code"]) == 0
    assert Bundle.open(tmp_path / "bundle").manifest.source.ignored_code
