"""Creates small static models with random tables, in the layouts of both libraries."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn

from comparison import TOLERANCE
from embedrt import Embedder
from embedrt.bundle.quantization import Quantization
from embedrt.verify import row_differences
from embedrt_export import export_model
from model_folders import bert_words, byte_level_bpe, randomize, trained_tokenizer, write_json

DIMENSION = 24
UNKNOWN = "a \U0001f9ff b \U0001f9ff\U0001f9ff c"
TEXTS = [
    "",
    " ",
    "London",
    UNKNOWN,
    "\U0001f9ff",
    "[UNK] [CLS] and [SEP]",
    "How many people live in London? Around 9 million people live in London.",
    *(" ".join(f"word{i}" for i in range(count)) for count in (5, 50, 190, 300, 700)),
    "x" * 150 + " and the lazy dog",
    "many   " * 900,
]

Vectors = NDArray[np.float32]


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
        SentenceTransformer(modules=modules, device="cpu", **saved).save(
            str(folder), create_model_card=False
        )
    return folder


def make_model2vec(
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: str = "float32",
    clusters: int | None = None,
    weighted: bool = False,
    max_length: int | None = 512,
    normalize: bool = False,
) -> Path:
    """Write the files of a StaticModel as model2vec does, without it; return the folder.

    `clusters` is the number of rows that all tokens share, and `weighted` gives each token a
    weight.
    """
    tokenizer = Tokenizer.from_str((tokenizer or wordpiece()).to_str())
    tokens = tokenizer.get_vocab_size()
    rng = np.random.default_rng(1)
    table = random_table(clusters or tokens)
    if dtype == "int8":
        table *= 60 / np.abs(table).max()
    tensors: dict[str, NDArray[Any]] = {"embeddings": table.astype(dtype)}
    if weighted:
        tensors["weights"] = rng.uniform(0.1, 3, tokens)
    if clusters:
        tensors["mapping"] = rng.integers(0, clusters, tokens)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    if max_length is not None:
        tokenizer.enable_truncation(max_length)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"model_type": "model2vec", "architectures": ["StaticModel"]}
    write_json(folder / "config.json", {**config, "normalize": normalize, "max_length": max_length})
    kinds = ["StaticEmbedding", *(["Normalize"] if normalize else [])]
    places = [".", "1_Normalize"]
    modules = [
        {
            "idx": n,
            "name": str(n),
            "path": places[n],
            "type": f"sentence_transformers.models.{kind}",
        }
        for n, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    return folder


def change_json(file: Path, **changes: Any) -> None:
    """Replace top-level keys of a JSON file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def exported(folder: Path, **options: Any) -> Path:
    """Export a model to the folder ``bundle`` beside it."""
    return export_model(str(folder), output=folder.with_name("bundle"), **options)


def same_alone(embedder: Embedder, texts: Sequence[str], together: Vectors) -> bool:
    """Whether each text gives the same bytes alone."""
    return all(
        embedder.encode(text).tobytes() == row.tobytes()
        for text, row in zip(texts, together, strict=True)
    )


def differences(embedder: Embedder, found: Vectors, expected: Vectors) -> Vectors:
    """The largest difference of each row, as the exporter measures it."""
    return row_differences(found, expected, normalized=embedder.manifest.normalized)


def check(embedder: Embedder, texts: Sequence[str], expected: Vectors) -> None:
    """Compare texts in one call with what the original gives, and with each alone."""
    found = embedder.encode(texts)
    assert differences(embedder, found, expected).max() <= TOLERANCE
    assert same_alone(embedder, texts, found)


def check_int8(folder: Path) -> None:
    """Export a model in both precisions, and compare the two."""
    whole = exported(folder)
    small = export_model(str(folder), output=folder.with_name("int8"), precision="int8")
    sizes = [(bundle / "weights.bin").stat().st_size for bundle in (small, whole)]
    assert sizes[0] < sizes[1] * (DIMENSION + 5) / (4 * DIMENSION)  # and a scale for each row
    with Embedder.load(small) as int8, Embedder.load(whole) as fp32:
        found, expected = int8.encode(TEXTS), fp32.encode(TEXTS)
        assert same_alone(int8, TEXTS, found)
        quantization = int8.manifest.quantization
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (found * expected).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
    assert cosines.min() > 0.9995
    assert isinstance(quantization, Quantization)
    assert (quantization.scheme, quantization.rejected) == ("table", ())
    assert quantization.min_cosine > 0.9995
