"""Tests of the recipes, and of the refusal of files that do not match a recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from embedrt.errors import RecipeMismatchError
from embedrt_export import export_model
from embedrt_export.source.recipe import Recipe, load_recipes
from model_folders import make_small, minilm_folder, write_json

MPNET = {"family": "mpnet", "layers": 12, "max_tokens": 384}
DISTILBERT = {"family": "distilbert", "layers": 6, "max_tokens": 512}
FACTS: dict[str, dict[str, Any]] = {
    "sentence-transformers/all-MiniLM-L6-v2": {
        "family": "bert",
        "layers": 6,
        "hidden": 384,
        "dimension": 384,
        "max_tokens": 256,
    },
    "sentence-transformers/all-mpnet-base-v2": MPNET,
    "sentence-transformers/multi-qa-distilbert-cos-v1": DISTILBERT,
    "sentence-transformers/msmarco-distilbert-dot-v5": {
        **DISTILBERT,
        "normalized": False,
        "similarity": "dot",
    },
    "flax-sentence-embeddings/multi-qa_v1-distilbert-mean_cos": {
        key: fact for key, fact in DISTILBERT.items() if key != "max_tokens"
    },
}
COMMON = {
    "hidden": 768,
    "heads": 12,
    "dimension": 768,
    "pooling": ["mean"],
    "normalized": True,
    "similarity": "cosine",
}
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

SMALL: dict[str, Any] = {
    "family": "bert",
    "layers": 2,
    "hidden": 32,
    "heads": 4,
    "dimension": 32,
    "max_tokens": 64,
    "pooling": ["mean"],
    "normalized": True,
    "similarity": "cosine",
}


def test_facts_of_the_first_five() -> None:
    recipes = load_recipes()
    assert {r.id: dict(r.expect) for r in recipes.values() if r.id in FACTS} == {
        id_: COMMON | facts for id_, facts in FACTS.items()
    }
    assert all(name == recipe.name == recipe.id.split("/")[1] for name, recipe in recipes.items())
    assert all(recipe.revision for recipe in recipes.values())


def test_minilm_weights() -> None:
    recipe = load_recipes()["all-MiniLM-L6-v2"]
    assert recipe.weights["model.safetensors"] == WEIGHTS
    recipe.check_weights({"model.safetensors": WEIGHTS})


def recipe_expecting(**expect: Any) -> Recipe:
    return Recipe("mine", "me/mine", "abc", None, None, {}, SMALL | expect)


def test_agreement_with_a_recipe() -> None:
    recipe_expecting().check(SMALL)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("family", "mpnet"),
        ("layers", 3),
        ("hidden", 33),
        ("heads", 2),
        ("dimension", 31),
        ("max_tokens", 63),
        ("pooling", ["cls"]),
        ("pooling", ["mean", "max"]),
        ("normalized", False),
        ("similarity", "dot"),
    ],
)
def test_mismatch_names_field_and_both_values(field: str, other: object) -> None:
    with pytest.raises(RecipeMismatchError) as caught:
        recipe_expecting(**{field: other}).check(SMALL)
    expected = f"{field}: the recipe expects {other!r}, the model's files say {SMALL[field]!r}"
    assert expected in str(caught.value)
    assert str(caught.value).count("the recipe expects") == 1


def test_prompts_that_a_recipe_names() -> None:
    recipe = recipe_expecting(prompts={"query": "query: "})
    recipe.check({**SMALL, "prompts": {"query": "query: ", "passage": "passage: "}})
    for prompts in ({}, {"query": "q: "}, {"passage": "query: "}):
        with pytest.raises(RecipeMismatchError, match="prompts: the recipe expects"):
            recipe.check({**SMALL, "prompts": prompts})


def test_all_mismatches_at_once() -> None:
    with pytest.raises(RecipeMismatchError) as caught:
        recipe_expecting(layers=3, normalized=False).check(SMALL)
    assert str(caught.value).count("the recipe expects") == 2


def test_other_weights_than_the_recipe_has() -> None:
    recipe = load_recipes()["all-MiniLM-L6-v2"]
    with pytest.raises(RecipeMismatchError, match=WEIGHTS) as caught:
        recipe.check_weights({"model.safetensors": "0" * 64})
    assert "0" * 64 in str(caught.value)
    with pytest.raises(RecipeMismatchError, match="tf_model"):
        recipe.check_weights({"tf_model.h5": WEIGHTS})


def test_export_of_another_model_by_a_recipe_name(tmp_path: Path) -> None:
    """The error names every field in which a small model differs from all-mpnet-base-v2."""
    folder = make_small(tmp_path / "model", "bert", pooling="cls", tail=[])
    output = tmp_path / "bundle"
    with pytest.raises(RecipeMismatchError) as caught:
        export_model("all-mpnet-base-v2", files=folder, output=output)
    wrong = [field for field in COMMON | MPNET if f" {field}: the recipe" in str(caught.value)]
    assert set(wrong) == (COMMON | MPNET).keys() - {"similarity"}
    assert not output.exists()


@pytest.mark.parametrize("change", ["weights", "max_seq_length"])
def test_export_of_an_altered_minilm(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(minilm_folder(), folder)
    if change == "weights":
        tensors = load_file(folder / "model.safetensors")
        tensors["embeddings.LayerNorm.bias"][0] += 1
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    else:
        settings = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
        write_json(folder / "sentence_bert_config.json", settings | {"max_seq_length": 128})
    match = "sha256" if change == "weights" else "max_tokens: the recipe expects 256.* say 128"
    with pytest.raises(RecipeMismatchError, match=match):
        export_model("all-MiniLM-L6-v2", files=folder, output=tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == [folder]
