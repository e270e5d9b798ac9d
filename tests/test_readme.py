"""Tests of README.md, models/README.md and tests/README.md: their code runs, their names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from embedrt import Embedder
from embedrt_export.source.recipe import load_recipes
from tiny_bundle import make_tiny_reranker
from tiny_late import make_tiny_late
from tiny_sparse import make_tiny_sparse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODELS = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
SETUP = 'from embedrt import Embedder\ntexts = ["a text", "another"]\n'


def python_blocks() -> list[str]:
    """Return the Python blocks, without parts that show another library."""
    blocks = re.findall(r"```python\n(.*?)```", README + MODELS, flags=re.DOTALL)
    return [block[block.find("# after") :] if "# after" in block else block for block in blocks]


@pytest.mark.parametrize("block", python_blocks())
def test_code_runs(
    block: str, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*load_recipes(), "potion-base-8M"):
        (tmp_path / f"{name}-fp32").symlink_to(minilm)
    make_tiny_reranker(tmp_path / "ms-marco-MiniLM-L6-v2-fp32")
    make_tiny_sparse(tmp_path / "splade-v3-fp32")
    make_tiny_late(tmp_path / "LateOn-fp32")
    monkeypatch.chdir(tmp_path)
    exec(compile(SETUP + block, "README.md", "exec"), {})


def test_demo_prints_these_scores(embedder: Embedder) -> None:
    printed = re.findall(r"^(0\.\d{4})\t(.+)$", README, flags=re.MULTILINE)
    query = embedder.encode_query("How many people live in London?")
    documents = embedder.encode_document([text for _, text in printed])
    scores = embedder.similarity(query, documents)[0]
    assert [score for score, _ in printed] == [f"{score:.4f}" for score in scores]


def test_table_of_models_matches_the_recipes() -> None:
    rows = {
        cells[0].strip("`"): cells[1:]
        for line in MODELS.splitlines()
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])[0].startswith("`")
        and len(cells) == 9
    }
    recipes = load_recipes()
    assert rows.keys() == recipes.keys()
    for name, recipe in recipes.items():
        _, _, dimension, longest, pooling, normalized, score, _ = rows[name]
        expect = recipe.expect
        assert dimension == str(expect["dimension"])
        if "max_tokens" in expect:
            assert longest == f"{expect['max_tokens']} tokens"
        assert [pooling] == expect["pooling"]
        said = {"True": "yes", "False": "no", "None": "as its files say"}
        assert normalized.strip("*") == said[str(expect.get("normalized"))]
        assert score.strip("*") == expect["similarity"]


def test_models_readme_lists_the_recipes() -> None:
    listed = dict(re.findall(r"(?m)^\| `([^`]+)` \| `([\w.-]+/[^`]+)` \|", MODELS))
    recipes = load_recipes()
    assert listed == {name: recipe.id for name, recipe in recipes.items()}
    assert [name for name, recipe in recipes.items() if recipe.weights] == [next(iter(listed))]


def test_every_test_that_is_named_exists() -> None:
    folder, first = ROOT / "tests", ""
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    for line in (line for line in lines if line.startswith("|")):
        above = first
        tests = re.findall(r"`([\w/]+\.py|…)((?:::\w+)*)`", line.rpartition(" | ")[2])
        for number, (file, names) in enumerate(tests):
            path = above if file == "…" else file
            first = first if number else path
            source = (folder / path).read_text(encoding="utf-8")
            for name in names.split("::")[1:]:
                assert re.search(rf"\b(class|def) {name}\b", source), f"{path}{names}"
