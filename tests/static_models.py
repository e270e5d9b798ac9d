"""Creates small static models with random tables, saved by the libraries that run them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn

from model_folders import bert_words, byte_level_bpe, randomize, trained_tokenizer

DIMENSION = 24


def wordpiece() -> Tokenizer:
    """BERT's vocabulary, where emoji and words of more than 100 letters are unknown."""
    words = bert_words()
    tokenizer = Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


def unigram() -> Tokenizer:
    """A vocabulary of 200 pieces, where most scripts are unknown."""
    backend: Tokenizer = trained_tokenizer(unigram=True).backend_tokenizer
    return backend


def byte_level() -> Tokenizer:
    """A vocabulary of bytes, where nothing is unknown."""
    return byte_level_bpe(["<pad>"])


def random_table(rows: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return token vectors of different lengths. Shape: (rows, DIMENSION)."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, DIMENSION)) * rng.uniform(0.1, 2, (rows, 1))
    return vectors.astype(np.float32)


def make_static(
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    tail: Sequence[nn.Module] = (),
    **saved: Any,
) -> Path:
    """Save a StaticEmbedding and the modules in `tail`; return the folder."""
    tokenizer = tokenizer or wordpiece()
    table = random_table(tokenizer.get_vocab_size())
    for index, module in enumerate(tail):
        randomize(module, 1 + index)
    with redirect_stderr(io.StringIO()):  # progress bars
        modules = [StaticEmbedding(tokenizer, embedding_weights=table), *tail]
        SentenceTransformer(modules=modules, device="cpu", **saved).save(str(folder))
    return folder


def make_model2vec(
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: str = "float32",
    clusters: int | None = None,
    weighted: bool = False,
    **options: Any,
) -> Path:
    """Save a StaticModel; return the folder.

    `clusters` is the number of rows that all tokens share, `weighted` gives each token a weight,
    and `options` are StaticModel's own.
    """
    tokenizer = tokenizer or wordpiece()
    tokens = tokenizer.get_vocab_size()
    rng = np.random.default_rng(1)
    table = random_table(clusters or tokens)
    if dtype == "int8":
        table *= 60 / np.abs(table).max()
    model = StaticModel(
        table.astype(dtype),
        tokenizer,
        config={"model_type": "model2vec", "architectures": ["StaticModel"]},
        weights=rng.uniform(0.1, 3, tokens) if weighted else None,
        token_mapping=rng.integers(0, clusters, tokens) if clusters else None,
        **options,
    )
    model.save_pretrained(folder)
    return folder


def change_json(file: Path, **changes: Any) -> None:
    """Replace top-level keys of a JSON file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **changes}), encoding="utf-8")
