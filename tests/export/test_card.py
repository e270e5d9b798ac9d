"""Tests of the model's own card: its metadata is used, and no error in it stops an export."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import RepoCard
from hypothesis import example, given
from hypothesis import strategies as st

from embedrt import Bundle
from embedrt.bundle.quantization import Quantization
from embedrt_export import export_model
from embedrt_export.card import model_card
from embedrt_export.source.card import read_license
from model_folders import make_small
from tiny_bundle import tiny_manifest

MIT = b"---\nlicense: mit\n---\n"


@pytest.mark.parametrize(
    ("card", "license_"),
    [
        (MIT, "mit"),
        (MIT.replace(b"\n", b"\r\n"), "mit"),
        (b"\xef\xbb\xbf" + MIT, "mit"),
        (b"---\nlicense: mit\nauthor: Ren\xe9\n---\n", "mit"),
        (b"---\nlanguage: en\n\nlicense: mit\nmodel-index:\n- name: x\n---\n# Model\n", "mit"),
        (b"---\nlicense: [mit, apache-2.0]\nlicense: mit\n---\n", "mit"),
        (b"---\nlicense: mit\n--- \n---\nlicense: gpl\n---\n", "mit"),
        (b"---\nlicense: 'mit'\n---", "mit"),
    ],
)  # fmt: skip
def test_license(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, card: bytes, license_: str
) -> None:
    (tmp_path / "README.md").write_bytes(card)
    assert read_license(tmp_path) == license_
    assert not caplog.records


@pytest.mark.parametrize(
    "card",
    [
        b"",
        b"# Model\n",
        b"---\nlanguage: en\n---\n",
        b"---\n---\n",
        b"---\nlicense:\n---\n",
        b"---\nlicense: mit\n",
        b"# Model\n---\nlicense: mit\n---\n",
    ],
)
def test_none_declared(tmp_path: Path, caplog: pytest.LogCaptureFixture, card: bytes) -> None:
    (tmp_path / "README.md").write_bytes(card)
    assert read_license(tmp_path) is None
    assert not caplog.records


def test_no_card(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_license(tmp_path) is None
    (tmp_path / "README.md").mkdir()
    assert read_license(tmp_path) is None
    (tmp_path / "README.md").rmdir()
    (tmp_path / "README.md").symlink_to("nowhere.md")
    assert read_license(tmp_path) is None
    assert not caplog.records


@pytest.mark.parametrize(
    "card",
    [
        b"---\nlicense: mit\n\ttags: x\n---\n# Model\n",
        b'---\nlicense: "mit\nlanguage: en\n---\n# Model\n',
        b"---\nlicense: mit\nbase_model: a: b\n---\n",
        b"---\n- license\n- mit\n---\n",
        b"---\nlicense: !!python/name:os.system\n---\n",
        b"---\nlicense: 3\n---\n",
        b"---\nlicense: [mit, apache-2.0]\n---\n",
        b"---\nlicense: {name: mit}\n---\n",
        b"---\n1: mit\nlicense: 3\n---\n",
        b'---\nlicense: "\\ud800"\n---\n',
        b'---\nlicense: "a\\nb"\n---\n',
        b"---\nlicense: " + 1_000 * b"x" + b"\n---\n",
        b"---\nlicense: " + 10_000 * b"[" + b"\n---\n",
        b"---\nlicense: &a [*a]\n---\n",
    ],
)
def test_what_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture, card: bytes) -> None:
    (tmp_path / "README.md").write_bytes(card)
    with caplog.at_level(logging.WARNING):
        assert read_license(tmp_path) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(tmp_path / "README.md") in record.getMessage()
    assert "license" in record.getMessage()
    assert len(record.getMessage().removeprefix(str(tmp_path))) < 500
    assert "\n" not in record.getMessage()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read anything")
def test_a_card_that_may_not_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "README.md").write_bytes(MIT)
    (tmp_path / "README.md").chmod(0)
    assert read_license(tmp_path) is None
    assert "README.md" in caplog.text


@given(st.binary() | st.binary().map(lambda inside: b"---\nlicense: " + inside + b"\n---\n"))
@example(b"---\n" + 500_000 * b"\n")
@example(b"---\n" + 500_000 * b"- [" + b"\n---\n")
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, card: bytes) -> None:
    folder = tmp_path_factory.mktemp("card")
    (folder / "README.md").write_bytes(card)
    license_ = read_license(folder)
    assert license_ is None or license_.encode()


class TestBundleCard:
    """The README of a bundle, parsed as a hub parses it."""

    INT8 = Quantization(
        scheme="row", rejected=(), texts=100, mean_cosine=0.9991, first_percentile_cosine=0.995,
        min_cosine=0.99, rank_agreement=0.93,
    )  # fmt: skip

    def test_metadata(self) -> None:
        card = RepoCard(model_card(tiny_manifest(name="tiny-fp32")))
        assert card.data.to_dict() == {
            "library_name": "embedrt",
            "base_model": "someone/tiny",
            "license": "mit",
            "pipeline_tag": "sentence-similarity",
            "tags": ["embedrt", "onnx", "feature-extraction", "bert", "fp32"],
        }

    def test_int8(self) -> None:
        manifest = tiny_manifest(precision="int8", quantization=self.INT8)
        card = RepoCard(model_card(manifest))
        assert card.data.to_dict()["base_model_relation"] == "quantized"
        assert "mean cosine 0.9991, first\npercentile 0.9950, smallest 0.9900" in card.text
        assert "93% of the ten\nnearest neighbors" in card.text

    def test_a_folder_is_no_base_model(self) -> None:
        source = dataclasses.replace(tiny_manifest().source, id="a folder: of 'mine'", license=None)
        data = RepoCard(model_card(tiny_manifest(source=source))).data.to_dict()
        assert not data.keys() & {"base_model", "license"}

    def test_its_example_works(self, minilm: Path, tmp_path: Path) -> None:
        """The README's Python example works; the serve tests cover its server example."""
        card = model_card(Bundle.open(minilm).manifest)
        (tmp_path / Bundle.open(minilm).manifest.name).symlink_to(minilm)
        (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        shown = "import os, sys; os.chdir(sys.argv[1])\n" + code
        subprocess.run([sys.executable, "-c", shown, str(tmp_path)], check=True)
        assert "curl localhost:8080/v1/embeddings" in card
        (body,) = re.findall(r"-d '(.*)'", card)
        assert json.loads(body)["input"] == ["a text", "another"]


def test_export(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_small(tmp_path / "model", "bert")
    (folder / "README.md").write_bytes(b"---\nlicense: mit\n\ttags: x\n---\n# Model\n")
    path = export_model(str(folder), output=tmp_path / "bundle")
    assert Bundle.open(path).manifest.source.license is None
    assert "not declared" in (path / "README.md").read_text(encoding="utf-8")
    assert [r.levelname for r in caplog.records if "license" in r.getMessage()] == ["WARNING"]
