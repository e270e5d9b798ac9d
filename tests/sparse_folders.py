"""Creates sparse encoders in the layout of the hub: random weights, real tokenizers."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from transformers import PreTrainedTokenizerBase

from model_folders import randomize, small_config, tokenizer_for

# How much of a random vocabulary has a weight: about one word in twelve.
SPARSE_BIAS = -1.4


def make_sparse(
    folder: Path,
    family: str,
    *,
    pooling: Literal["max", "sum"] = "max",
    activation: Literal["relu", "log1p_relu"] = "relu",
    tied: bool = True,
    max_tokens: int | None = 64,
    seed: int = 0,
    config: Mapping[str, object] | None = None,
    inference_free: bool = False,
    default_route: str = "document",
    **saved: Any,
) -> Path:
    """Save a small sparse encoder of a family with sentence-transformers; return its folder.

    With `inference_free`, queries have a static weight for each token. `saved` are arguments of
    SparseEncoder, such as prompts.
    """
    encoder = save_masked(folder.with_name(f"{folder.name}-encoder"), family, seed, tied, config)
    with redirect_stderr(io.StringIO()):  # progress bars, where a test reads what was written
        transformer = Transformer(
            str(encoder), max_seq_length=max_tokens, transformer_task="fill-mask"
        )
        documents: list[Any] = [
            transformer,
            SpladePooling(pooling_strategy=pooling, activation_function=activation),
        ]
        modules = documents
        if inference_free:
            table = SparseStaticEmbedding(
                transformer.tokenizer, weight=query_weights(len(transformer.tokenizer), seed)
            )
            modules = [
                Router.for_query_document(
                    query_modules=[table],
                    document_modules=documents,
                    default_route=default_route,
                )
            ]
        SparseEncoder(modules=modules, device="cpu", **saved).save(
            str(folder), create_model_card=False
        )
    shutil.rmtree(encoder)
    return folder


def save_masked(
    folder: Path,
    family: str,
    seed: int = 0,
    tied: bool = True,
    config: Mapping[str, object] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Path:
    """Save a masked-LM model with random weights as transformers does; return its folder."""
    folder.mkdir(parents=True)
    tokenizer = tokenizer or tokenizer_for(family, folder)
    tokenizer.save_pretrained(folder)
    changes = {"tie_word_embeddings": tied, **(config or {})}
    kinds: Any = transformers.AutoModelForMaskedLM
    model = kinds.from_config(small_config(family, len(tokenizer), **changes))
    randomize(model, seed)
    sparsify(model)
    model.save_pretrained(folder)
    return folder


def sparsify(model: Any) -> None:
    """Lower the decoder's bias, so that most words of a text have no weight."""
    with torch.no_grad():
        bias = model.get_output_embeddings().bias
        if bias is not None:
            bias.add_(SPARSE_BIAS)


def query_weights(words: int, seed: int = 0) -> torch.Tensor:
    """Return weights for the tokens of queries, some of which are zero. Shape: (words,)."""
    drawn = torch.randn(words, generator=torch.Generator().manual_seed(seed))
    return drawn.clamp_min(0) * 3


def make_full_size_sparse(folder: Path, *, layers: int = 12, seed: int = 0) -> Path:
    """Save a sparse encoder with the sizes and settings of splade-v3, and random weights."""
    encoder = folder.with_name(f"{folder.name}-encoder")
    encoder.mkdir(parents=True)
    tokenizer = tokenizer_for("bert", encoder, whole=True)
    config = transformers.BertConfig(vocab_size=len(tokenizer), num_hidden_layers=layers)
    tokenizer.save_pretrained(encoder)
    model = transformers.BertForMaskedLM(config)
    randomize(model, seed)
    sparsify(model)
    model.save_pretrained(encoder)
    with redirect_stderr(io.StringIO()):
        transformer = Transformer(str(encoder), max_seq_length=512, transformer_task="fill-mask")
        modules: list[Any] = [transformer, SpladePooling()]
        SparseEncoder(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    shutil.rmtree(encoder)
    return folder
