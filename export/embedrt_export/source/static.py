"""Reads static models: a table of token vectors, its tokenizer, and the modules after it.

The two libraries interpret the same files differently. sentence-transformers averages the vectors
of all tokens; model2vec leaves out unknown tokens, and truncates a text to 512 tokens and to as
many characters as these usually have. A model with the ``config.json`` of model2vec is exported
with the behavior of model2vec.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer

from embedrt.bundle.manifest import MAX_TOKENS, Side, Similarity
from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.head import Head, Normalize
from embedrt_export.quiet import gist
from embedrt_export.source.checkpoint import Tensors, load_tensors
from embedrt_export.source.checks import JsonObject, check_object, read_object, refuse_for
from embedrt_export.source.embedding import WEIGHTED_MODULES, read_head, read_similarity
from embedrt_export.source.files import read_text
from embedrt_export.source.head import check_modules
from embedrt_export.source.keys import MODEL, MODEL2VEC
from embedrt_export.source.modules import MODULES, foreign_modules, read_modules
from embedrt_export.source.prompts import EXTRAS, read_prompts
from embedrt_export.table import Rows, Table

Family = Literal["static", "model2vec"]

DEFAULT_MAX_TOKENS = 512  # model2vec's, where the config does not say
STATIC_MODULE = "StaticEmbedding"
KEPT = {"torch.float16": np.float16, "torch.int8": np.int8}


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticSettings:
    """The settings and weights of a static model."""

    folder: Path
    """The model's folder."""
    family: Family
    table: Table
    tokenizer: str
    """The tokenizer's JSON, without special tokens, padding and truncation."""
    head: Head
    """The modules after the mean, with their weights."""
    weight_folders: tuple[Path, ...]
    max_tokens: int
    truncation_side: Side
    max_characters: int | None
    similarity: Similarity | None
    prompts: dict[str, str]
    default_prompt_name: str | None


def static_family(folder: Path) -> Family | None:
    """Return the kind of static model in `folder`; None if it holds another model."""
    if read_object(folder / "config.json").get("model_type") == "model2vec":
        return "model2vec"
    if not (folder / MODULES).is_file():
        return None
    return "static" if read_modules(folder)[0].kind == STATIC_MODULE else None


def read_static(folder: Path) -> StaticSettings:
    """Read the settings and weights of the static model in `folder`.

    Raises SourceError if a file is missing or a value in it is of the wrong kind, and
    UnsupportedModelError with the reasons why the model cannot be exported.
    """
    if static_family(folder) == "model2vec":
        return _read_model2vec(folder)
    return _read_static_embedding(folder)


def _read_static_embedding(folder: Path) -> StaticSettings:
    first, *rest = read_modules(folder)
    model_file = folder / EXTRAS
    model = read_object(model_file)
    prompts, default_prompt_name = read_prompts(model, model_file)
    similarity, reasons = read_similarity(model)
    reasons += check_object(folder, model_file, model, MODEL)
    reasons += foreign_modules([first, *rest])
    reasons += check_modules(folder, rest)
    if any(module.kind == "Pooling" for module in rest):
        reasons.append(f"its {STATIC_MODULE}, which gives no token vectors, has a Pooling after it")
    refuse_for(folder, reasons)
    tensors = load_tensors(first.path)
    if tensors.has("embedding.weight"):
        rows = _rows(tensors, "embedding.weight")
    else:
        table = _model2vec_table(tensors, first.path)
        rows = table.rows if table.row_of is None else table.rows[table.row_of]
        if table.weights is not None:  # sentence-transformers multiplies and rounds once, at load
            weighted: Rows = rows.astype(np.float32) * table.weights[:, None]
            rows = weighted.astype(np.float16) if rows.dtype == np.float16 else weighted
    table = Table(rows=rows)
    tokenizer, content = _read_tokenizer(first.path, table)
    truncation = content["truncation"] or {}
    side: Side = "left" if truncation.get("direction") == "Left" else "right"
    return StaticSettings(
        folder=folder,
        family="static",
        table=table,
        tokenizer=_plain(tokenizer),
        head=read_head(rest, model),
        weight_folders=(first.path, *(m.path for m in rest if m.kind in WEIGHTED_MODULES)),
        max_tokens=_limit(folder, truncation.get("max_length")),
        truncation_side=side,
        max_characters=None,
        similarity=similarity,
        prompts=prompts,
        default_prompt_name=default_prompt_name,
    )


def _read_model2vec(folder: Path) -> StaticSettings:
    file = folder / "config.json"
    config = read_object(file)
    refuse_for(folder, check_object(folder, file, config, MODEL2VEC))
    table = _model2vec_table(load_tensors(folder), folder)
    tokenizer, content = _read_tokenizer(folder, table)
    unknown = _unknown_id(tokenizer, content["model"])
    most = config.get("max_length", DEFAULT_MAX_TOKENS)
    lengths = [len(token) for token in tokenizer.get_vocab()]
    return StaticSettings(
        folder=folder,
        family="model2vec",
        table=Table(rows=table.rows, row_of=table.row_of, weights=table.weights, unknown=unknown),
        tokenizer=_plain(tokenizer),
        head=(Normalize(),) if config.get("normalize", False) else (),
        weight_folders=(folder,),
        max_tokens=_limit(folder, most),
        truncation_side="right",
        max_characters=None if most is None else most * int(np.median(lengths)),
        similarity=None,
        prompts={},
        default_prompt_name=None,
    )


def _limit(folder: Path, most: int | None) -> int:
    """Return the number of tokens that a text is truncated to, by default the format's maximum."""
    if most == 0:
        raise UnsupportedModelError(f"{folder} truncates every text to no tokens")
    return min(MAX_TOKENS, most or MAX_TOKENS)


def _model2vec_table(tensors: Tensors, folder: Path) -> Table:
    """Return the table under model2vec's names, with its mapping and weights if it has them."""
    rows = _rows(tensors, "embeddings")
    row_of = tensors.whole("mapping") if tensors.has("mapping") else None
    weights = tensors.array("weights", axes=1) if tensors.has("weights") else None
    tokens = len(rows) if row_of is None else len(row_of)
    if row_of is not None and not (row_of.min() >= 0 and row_of.max() < len(rows)):
        raise UnsupportedModelError(f"{folder} maps tokens to rows that its table does not have")
    if weights is not None and len(weights) != tokens:
        raise UnsupportedModelError(
            f"{folder} has {len(weights)} weights for {tokens} tokens: its weights are broken"
        )
    return Table(rows=rows, row_of=row_of, weights=weights)


def _rows(tensors: Tensors, name: str) -> Rows:
    """Return a table in its own type where the graph can convert it exactly, else in float32."""
    rows = tensors.array(name, axes=2)
    kept = KEPT.get(str(tensors.tensors[name].dtype))
    return rows if kept is None else rows.astype(kept)


def _read_tokenizer(folder: Path, table: Table) -> tuple[Tokenizer, JsonObject]:
    """Return the tokenizer and its JSON; raise an error if it does not fit the table."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise SourceError(f"{file} is missing: a static model has its tokenizer there")
    try:
        tokenizer = Tokenizer.from_str(read_text(file))
    except Exception as error:  # of the Rust library, which has no class for it
        raise SourceError(f"{file} is not a tokenizer: {gist(error)}") from error
    content: JsonObject = json.loads(tokenizer.to_str())
    if content["model"].get("dropout"):
        raise UnsupportedModelError(
            f"{file} has dropout, which gives different tokens for the same text; set it to null"
        )
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", -1))
    if largest >= table.tokens:
        raise UnsupportedModelError(
            f"{folder} has a tokenizer that needs {largest + 1} rows, for {token!r}, and a table "
            f"of {table.tokens}: a text with that token would fail"
        )
    return tokenizer, content


def _plain(tokenizer: Tokenizer) -> str:
    """Return the tokenizer as both libraries use it: without special tokens and padding."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    content = json.loads(tokenizer.to_str())
    return json.dumps({**content, "post_processor": None}, ensure_ascii=False)


def _unknown_id(tokenizer: Tokenizer, model: dict[str, Any]) -> int | None:
    """Return the id of the token for unknown words; None if the tokenizer has none."""
    if "unk_token" not in model:  # Unigram
        unknown: int | None = model.get("unk_id")
        return unknown
    token = model["unk_token"]
    return None if token is None else tokenizer.token_to_id(token)
