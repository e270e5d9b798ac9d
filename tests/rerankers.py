"""Creates cross-encoders in the layout of the hub: random weights, real tokenizers and settings."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder
from tokenizers import processors

from embedrt_export import export_model
from model_folders import HIDDEN, SMALL, change_json, randomize, small_config, tokenizer_for

TOLERANCE = 2e-6

# The families whose classifiers are exported, except those that a tracer draws.
FAMILIES = [
    "albert",
    "bert",
    "data2vec-text",
    "distilbert",
    "electra",
    "ernie",
    "modernbert",
    "mpnet",
    "rembert",
    "roberta",
    "roformer",
    "xlm-roberta",
    "xlm-roberta-xl",
]
# Traced, and with a tokenizer that gives types which the encoder does not read.
DEBERTA = {
    "hidden_size": HIDDEN,
    **SMALL,
    "relative_attention": True,
    "position_buckets": 16,
    "pos_att_type": ["p2c", "c2p"],
    "type_vocab_size": 0,
}
UNPAIRED = ("<s>", "</s>")


@dataclass(frozen=True, slots=True)
class Made:
    """A cross-encoder's folder and the bundle exported from it."""

    folder: Path
    bundle: Path


def make_cross_encoder(
    folder: Path,
    family: str = "bert",
    *,
    labels: int = 1,
    activation: str | None = None,
    max_tokens: int = 64,
    seed: int = 0,
    config: Mapping[str, object] | None = None,
    whole: bool = False,
) -> Path:
    """Save a small cross-encoder as transformers saves a classifier; return its folder.

    `activation` is the path of a class that ``config.json`` names, `config` overrides the
    encoder's config, and `whole` is that of `tokenizer_for`.
    """
    folder.mkdir(parents=True)
    tokenizer = tokenizer_for(family, folder, whole=whole)
    if all(token in tokenizer.get_vocab() for token in UNPAIRED) and family != "mpnet":
        set_pair_template(tokenizer)
    tokenizer.model_max_length = max_tokens
    tokenizer.save_pretrained(folder)
    changes: dict[str, Any] = {"num_labels": labels, **(config or {})}
    settings: transformers.PretrainedConfig
    if family == "deberta-v2":
        size = {"vocab_size": len(tokenizer), "pooler_hidden_size": HIDDEN}
        settings = transformers.DebertaV2Config(**{**DEBERTA, **size, **changes})
    else:
        settings = small_config(family, len(tokenizer), **changes)
    save_classifier(settings, folder, seed)
    if activation is not None:
        change_json(folder / "config.json", sentence_transformers={"activation_fn": activation})
    return folder


def save_classifier(config: transformers.PretrainedConfig, folder: Path, seed: int) -> None:
    """Save a classifier with random weights."""
    kind: Any = transformers.AutoModelForSequenceClassification
    model = kind.from_config(config)
    randomize(model, seed)
    with redirect_stderr(io.StringIO()):  # progress bars
        model.save_pretrained(folder)


# Settings of the models on the hub, whose weights cannot be had here: family, config, activation.
FULL_SIZE: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "ms-marco-MiniLM-L6-v2": (
        "bert",
        {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
        "torch.nn.modules.linear.Identity",
    ),
    "bge-reranker-base": (
        "xlm-roberta",
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "intermediate_size": 3072,
            "max_position_embeddings": 514,
            "layer_norm_eps": 1e-5,
            "vocab_size": 250_002,
        },
        None,
    ),
}


def make_full_size(folder: Path, name: str) -> Path:
    """Save a full-size cross-encoder with real settings and random weights; return its folder."""
    family, config, activation = FULL_SIZE[name]
    config = {"num_attention_heads": 12, **config}
    return make_cross_encoder(
        folder,
        family,
        activation=activation,
        max_tokens=512,
        seed=len(name),
        config=config,
        whole=True,
    )


def set_pair_template(tokenizer: Any) -> None:
    """Let a trained tokenizer write a pair as RoBERTa does."""
    special = [(token, tokenizer.get_vocab()[token]) for token in UNPAIRED]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=special
    )


def export_cross_encoder(parent: Path, family: str = "bert", **options: Any) -> Made:
    """Make a small cross-encoder and export it; `options` are those of `make_cross_encoder`."""
    made = Made(parent / family, parent / f"{family}-fp32")
    make_cross_encoder(made.folder, family, **options)
    export_model(str(made.folder), output=made.bundle)
    return made


def original(folder: Path) -> CrossEncoder:
    """Load the original cross-encoder, in float32."""
    options = {"attn_implementation": "eager", "dtype": torch.float32}
    model: CrossEncoder = CrossEncoder(
        str(folder), device="cpu", local_files_only=True, model_kwargs=options
    )
    return model


def scores_alone(
    model: CrossEncoder, pairs: Sequence[tuple[str, str]], **options: Any
) -> NDArray[np.float32]:
    """Score pairs with the original one at a time, without padding. Shape: (n,) or (n, labels)."""
    return np.stack([model.predict([list(pair)], **options)[0] for pair in pairs])


def largest_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference of a score, relative to the largest score unless all are zero."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / (np.abs(expected).max() or 1.0))
