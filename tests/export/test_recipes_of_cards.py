"""Tests of recipes against small models with the real models' settings and random weights.

The tests have no access to the hub. `CARDS` contains what the models' public cards and config files
say, read independently of the recipes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModel

from embedrt.errors import RecipeMismatchError
from embedrt_export import export_model
from embedrt_export.families import READERS
from embedrt_export.source.recipe import load_recipes
from model_folders import METADATA, change_json, trained_tokenizer, write_json, write_settings

SLOW = pytest.mark.slow  # tracing
SIZES = {"layers", "hidden", "dimension"}  # of a stand-in, which has the model's number of heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The contents of a model's public pages."""

    config: str
    """The class of the model's config in transformers."""
    sizes: tuple[int, int, int]
    """Layers, hidden size and heads."""
    settings: dict[str, Any]
    """Other published keys of the config that change the graph."""
    pooling: str
    max_tokens: int
    normalized: bool | None = True
    """Whether vectors are normalized; None if the card does not say."""
    prompts: dict[str, str] = field(default_factory=dict)
    dense: tuple[int, ...] = ()
    """Widths of the Dense modules after the pooling."""


XLM_R = {"max_position_embeddings": 514, "type_vocab_size": 1}
MODERNBERT = {
    "max_position_embeddings": 8192,
    "local_attention": 128,
    "global_attn_every_n_layers": 3,
    "cls_token_id": 0,
    "sep_token_id": 2,
}
CARDS = {
    "Qwen3-Embedding-0.6B": Card(
        config="Qwen3Config",
        sizes=(28, 1024, 16),
        settings={"num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 32768},
        pooling="lasttoken",
        max_tokens=32768,
        prompts={
            "query": "Instruct: Given a web search query, retrieve relevant passages that answer "
            "the query\nQuery:",
            "document": "",
        },
    ),
    "embeddinggemma-300m": Card(
        config="Gemma3TextConfig",
        sizes=(24, 768, 3),
        settings={
            "num_key_value_heads": 1,
            "head_dim": 256,
            "max_position_embeddings": 2048,
            "sliding_window": 512,
            "use_bidirectional_attention": True,
        },
        pooling="mean",
        max_tokens=2048,
        prompts={
            "query": "task: search result | query: ",
            "document": "title: none | text: ",
            "STS": "task: sentence similarity | query: ",
        },
        dense=(3072, 768),
    ),
    "gte-modernbert-base": Card(
        config="ModernBertConfig",
        sizes=(22, 768, 12),
        settings=MODERNBERT,
        pooling="cls",
        max_tokens=8192,
        normalized=None,
    ),
    "modernbert-embed-base": Card(
        config="ModernBertConfig",
        sizes=(22, 768, 12),
        settings=MODERNBERT,
        pooling="mean",
        max_tokens=8192,
        normalized=None,
    ),
    "bge-m3": Card(
        config="XLMRobertaConfig",
        sizes=(24, 1024, 16),
        settings={**XLM_R, "max_position_embeddings": 8194},
        pooling="cls",
        max_tokens=8192,
    ),
    "bge-small-en-v1.5": Card(
        config="BertConfig", sizes=(12, 384, 12), settings={}, pooling="cls", max_tokens=512
    ),
    "bge-base-en-v1.5": Card(
        config="BertConfig", sizes=(12, 768, 12), settings={}, pooling="cls", max_tokens=512
    ),
    "multilingual-e5-small": Card(
        config="BertConfig", sizes=(12, 384, 12), settings={}, pooling="mean", max_tokens=512
    ),
    "multilingual-e5-base": Card(
        config="XLMRobertaConfig",
        sizes=(12, 768, 12),
        settings=XLM_R,
        pooling="mean",
        max_tokens=512,
    ),
    "multilingual-e5-large": Card(
        config="XLMRobertaConfig",
        sizes=(24, 1024, 16),
        settings=XLM_R,
        pooling="mean",
        max_tokens=512,
    ),
    "paraphrase-multilingual-MiniLM-L12-v2": Card(
        config="BertConfig",
        sizes=(12, 384, 12),
        settings={},
        pooling="mean",
        max_tokens=128,
        normalized=False,
    ),
    "mxbai-embed-large-v1": Card(
        config="BertConfig",
        sizes=(24, 1024, 16),
        settings={},
        pooling="cls",
        max_tokens=512,
        normalized=None,
    ),
}


def make_stand_in(folder: Path, card: Card) -> Path:
    """Save a narrow model of random weights with the settings of a card."""
    tokenizer = trained_tokenizer()
    tokenizer.model_max_length = card.max_tokens
    hidden = 8 * card.sizes[2]
    narrow = {"hidden_size": hidden, "num_hidden_layers": 2, "num_attention_heads": card.sizes[2]}
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = getattr(transformers, card.config)(
        vocab_size=len(tokenizer), intermediate_size=64, **{**card.settings, **narrow, **tokens}
    )
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_settings(
        folder,
        max_tokens=card.max_tokens,
        normalized=card.normalized is not False and not card.dense,
        dimension=hidden,
    )
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": hidden, "pooling_mode": card.pooling},
    )
    change_json(folder / "config_sentence_transformers.json", prompts=card.prompts)
    if card.dense:
        _add_dense(folder, hidden, card.dense)
    return folder


def _add_dense(folder: Path, width: int, widths: tuple[int, ...]) -> None:
    kinds = ["Transformer", "Pooling", *["Dense"] * len(widths), "Normalize"]
    paths = ["", *(f"{index}_{kind}" for index, kind in enumerate(kinds) if index)]
    write_json(
        folder / "modules.json",
        [
            {"name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (kind, path) in enumerate(zip(kinds, paths, strict=True))
        ],
    )
    for path, wide in zip(paths[2:], widths, strict=False):
        write_json(
            folder / path / "config.json",
            {
                "in_features": width,
                "out_features": wide,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            },
        )
        weights = torch.randn(wide, width) / width**0.5
        save_file({"linear.weight": weights}, folder / path / "model.safetensors", METADATA)
        width = wide


def test_every_current_recipe_has_a_card() -> None:
    first_five = re.compile("all-M|all-m|multi-qa|msmarco")
    assert CARDS.keys() == {name for name in load_recipes() if not first_five.match(name)}


@pytest.mark.parametrize("name", CARDS)
def test_sizes(name: str) -> None:
    card, expect = CARDS[name], load_recipes()[name].expect
    assert (expect["layers"], expect["hidden"], expect["heads"]) == card.sizes
    assert expect["dimension"] == (card.dense[-1] if card.dense else card.sizes[1])
    assert ("normalized" in expect) is (card.normalized is not None)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if load_recipes()[name].expect["family"] in READERS else SLOW)
        for name in CARDS
    ],
)
def test_a_stand_in_differs_only_in_its_sizes(tmp_path: Path, name: str) -> None:
    card = CARDS[name]
    folder = make_stand_in(tmp_path / "model", card)
    with pytest.raises(RecipeMismatchError) as caught:
        export_model(name, files=folder, output=tmp_path / "bundle")
    wrong = set(re.findall(r"(\w+): the recipe expects", str(caught.value)))
    assert wrong == (SIZES - {"dimension"} if card.dense else SIZES)
    assert not (tmp_path / "bundle").exists()
