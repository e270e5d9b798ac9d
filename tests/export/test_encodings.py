"""Tests that a model's text files are read as UTF-8, with or without a BOM, in any locale."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedrt import Bundle
from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export import export_model
from embedrt_export.int8.calibration import read_calibration
from embedrt_export.source.card import read_license
from embedrt_export.source.checkpoint import weight_files
from embedrt_export.source.files import read_json, read_text
from embedrt_export.source.recipe import FOLDER, load_recipes
from embedrt_export.source.settings import read_settings
from model_folders import make_small, write_json

MARK = codecs.BOM_UTF8
PROMPTS = {"query": "requête : ", "passage": "为这个句子生成表示"}
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
EXPORT = """
import locale, sys
from pathlib import Path
from embedrt_export import export_model
assert locale.getencoding() != "utf-8"
export_model(sys.argv[1], output=Path(sys.argv[2]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = make_small(tmp_path / "model", "bert")
    write_json(folder / "config_sentence_transformers.json", {"prompts": PROMPTS})
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# 模型\n", encoding="utf-8")
    return folder


def mark(file: Path) -> None:
    file.write_bytes(MARK + file.read_bytes())


def test_in_a_locale_that_is_not_utf8(folder: Path, tmp_path: Path) -> None:
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": PROMPTS}, ensure_ascii=False), encoding="utf-8"
    )
    command = [sys.executable, "-c", EXPORT, str(folder), str(tmp_path / "bundle")]
    subprocess.run(command, env={**os.environ, **ASCII_LOCALE}, check=True, capture_output=True)
    manifest = Bundle.open(tmp_path / "bundle").manifest
    assert manifest.prompts == PROMPTS
    assert manifest.source.license == "mit"


@pytest.mark.parametrize(
    "name", ["modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"]
)
def test_settings_with_a_mark(folder: Path, name: str) -> None:
    plain = read_settings(folder)
    mark(folder / name)
    assert read_settings(folder) == plain


@pytest.mark.parametrize("name", ["modules.json", "sentence_bert_config.json"])
def test_settings_with_a_mark_that_the_original_does_not_read(
    folder: Path, tmp_path: Path, name: str
) -> None:
    """Without an original to compare with, the error names the file and nothing is written."""
    write_json(folder / name, json.loads((folder / name).read_text(encoding="utf-8")))
    mark(folder / name)
    with pytest.raises(UnsupportedModelError) as caught:
        export_model(str(folder), output=tmp_path / "bundle")
    assert str(caught.value).endswith(
        f"; {name} starts with a byte order mark, which is not supported: save it without"
    )
    assert not (tmp_path / "bundle").exists()


def test_index_of_weights_with_a_mark(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    write_json(index, {"weight_map": {"a": "model-00001-of-00001.safetensors"}})
    mark(index)
    assert [file.name for file in weight_files(folder)] == ["model-00001-of-00001.safetensors"]


def test_card_with_a_mark(folder: Path) -> None:
    assert read_license(folder) == "mit"
    mark(folder / "README.md")
    assert read_license(folder) == "mit"


def test_card_without_facts(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "README.md").write_text("# 模型\n", encoding="utf-8")
    assert read_license(folder) is None
    assert not caplog.records


def test_recipes_with_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_recipes()
    for recipe in FOLDER.glob("*.toml"):
        (tmp_path / recipe.name).write_bytes(MARK + recipe.read_bytes())
    monkeypatch.setattr("embedrt_export.source.recipe.FOLDER", tmp_path)
    assert load_recipes() == plain


def test_calibration_with_a_mark(tmp_path: Path) -> None:
    """Lines end at a newline and nowhere else, as in `embedrt encode`."""
    lines = [f"text {number}\x0c{number}" for number in range(60)]
    (tmp_path / "plain.txt").write_bytes("\n".join(lines).encode())
    (tmp_path / "marked.txt").write_bytes(MARK + "\r\n".join(lines).encode())
    found = read_calibration(tmp_path / "marked.txt")
    assert found == read_calibration(tmp_path / "plain.txt")
    assert found.held_back[0] == lines[0]


@pytest.mark.parametrize("name", ["modules.json", "config_sentence_transformers.json"])
def test_settings_in_utf16(folder: Path, name: str) -> None:
    file = folder / name
    file.write_bytes(file.read_text(encoding="utf-8").encode("utf-16"))
    with pytest.raises(SourceError) as caught:
        read_settings(folder)
    assert str(caught.value) == (
        f"{file} is UTF-16; save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE"
    )


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.json cannot be read: No such file"):
        read_json(tmp_path / "nowhere.json")
    with pytest.raises(SourceError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
    (tmp_path / "deep.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(SourceError, match=r"deep\.json is not JSON: "):
        read_json(tmp_path / "deep.json")
