"""Tests of `embedrt compare`, on real MiniLM and on models that differ by a known amount."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedrt import Embedder
from embedrt.cli import main
from embedrt.errors import UnsupportedModelError
from embedrt_export import export_model
from embedrt_export.migration.measure import Migration, Side, compare
from embedrt_export.migration.page import page
from model_folders import make_small

TEXTS = [
    f"{noun} number {number}" for noun in ("a cat", "<b>", "the & river") for number in range(8)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small(tmp_path_factory.mktemp("migration") / "model", "bert")


@pytest.fixture(scope="module")
def bundle(model: Path) -> Path:
    return export_model(str(model), output=model.with_name("bundle"))


def test_figures(model: Path, bundle: Path) -> None:
    """The figures equal those computed directly from sentence-transformers' vectors."""
    found = compare(str(model), bundle, TEXTS)
    expected = SentenceTransformer(str(model), device="cpu").encode(TEXTS)
    with Embedder.load(bundle) as embedder:
        vectors = embedder.encode(TEXTS)
    cosines = (expected * vectors).sum(1) / np.linalg.norm(expected, axis=1)
    cosines /= np.linalg.norm(vectors, axis=1)
    assert np.allclose(found.cosines, cosines, atol=1e-6)
    assert found.cosines.min() > 0.99999
    assert len(found.shared) == len(TEXTS)
    assert found.shared.mean() > 9.5
    assert found.bundle.texts_per_second == len(TEXTS) / found.bundle.seconds


def test_another_model(bundle: Path, tmp_path: Path) -> None:
    """The figures show that another model agrees on nothing."""
    other = make_small(tmp_path / "other", "distilbert")
    found = compare(str(other), bundle, TEXTS)
    assert found.cosines.mean() < 0.9
    assert found.shared.mean() < 9
    assert [cosine for cosine, _ in found.worst] == sorted(found.cosines)[:10]


def test_another_dimension(minilm: Path, model: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="384 components and"):
        compare(str(model), minilm, TEXTS)


@pytest.mark.parametrize(("texts", "neighbors"), [(TEXTS[:2], 1), (["a"] * 5, 4)])
def test_few_texts(model: Path, bundle: Path, texts: list[str], neighbors: int) -> None:
    found = compare(str(model), bundle, texts)
    assert found.neighbors == neighbors
    assert (found.shared == neighbors).all()
    with pytest.raises(ValueError, match="1 texts cannot be compared"):
        compare(str(model), bundle, texts[:1])


def test_command(
    model: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    html = tmp_path / "page.html"
    command = ["compare", str(model), str(bundle), str(tmp_path / "texts.txt"), "--html", str(html)]
    assert main(command) == 0
    out = capsys.readouterr().out
    for line in (r"cosine, least +1\.0000", r"same among the top 10 +\d+\.\d\d% of", r"speed +\d"):
        assert re.search(line, out), out
    assert len(out.partition("change most\n")[2].splitlines()) == 10
    written = html.read_text(encoding="utf-8")
    assert written.count("<svg ") == 2
    assert "cosine, least" in written


def made(cosines: list[float], shared: list[int]) -> Migration:
    side = Side(name="<x>", seconds=1.0, texts_per_second=2.0)
    return Migration(
        texts=len(cosines), original=side, bundle=side, threads=1, cosines=np.array(cosines),
        worst=[(0.5, "<script>alert(1)</script>")], shared=np.array(shared), neighbors=10,
    )  # fmt: skip


def test_page_loads_nothing_and_quotes_texts() -> None:
    written = page(made([0.5, 1.0, 1.0000001], [10, 9, 10]))
    assert not re.search(r"https?:|//|src=|href=|<script|url\(|@import", written)
    assert "&lt;script&gt;" in written


def test_plots_count_every_text() -> None:
    written = page(made([0.5, 0.75, 1.0, 1.0000001], [10, 9, 10, 0]))
    cosines, neighbors = re.findall(r"<svg.*?</svg>", written)
    heights = [
        [float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', plot)]
        for plot in (cosines, neighbors)
    ]
    assert heights[0] == [102.0] + [0.0] * 14 + [102.0] + [0.0] * 13 + [204.0]
    assert heights[1] == [102.0] + [0.0] * 8 + [102.0, 204.0]
    assert page(made([1.0, 1.0], [10, 10])).count("<rect") == 30 + 11
