"""Reads models saved by PyLate as sentence-transformers does, with PyLate's own defaults."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedrt_export.source.checks import (
    COUNT,
    FLAG,
    OBJECT,
    TEXT,
    TEXTS,
    JsonObject,
    Table,
    check_object,
    honored,
    object_of,
    refusal,
)
from embedrt_export.source.modules import Module
from embedrt_export.source.other_models import LATE

MODEL_TYPE = "ColBERT"
DENSE = "pylate.models.Dense.Dense"
OURS = "sentence_transformers.base.modules"
LENGTH = 32  # of a query, unless the files say another
TOKENS = {"module_input_name": "token_embeddings"}

PYLATE = Table(
    unknown="ignored",
    keys={
        "query_prefix": honored(TEXT.or_null, "it comes before the prompt of queries"),
        "document_prefix": honored(TEXT.or_null, "it comes before the prompt of documents"),
        "query_length": honored(COUNT.or_null, "queries are expanded or truncated to it"),
        "document_length": honored(COUNT.or_null, "documents are truncated to it"),
        "query_expansion": honored(OBJECT.or_null, "as in sentence_bert_config.json"),
        "do_query_expansion": honored(FLAG.or_null, "whether queries are expanded"),
        "attend_to_expansion_tokens": honored(FLAG.or_null, "whether the added tokens are seen"),
        "attend_to_mask_tokens": honored(FLAG.or_null, "its older name"),
        "skiplist_words": honored(TEXTS.or_null, "the tokens whose vectors are left out"),
        "prompts": honored(object_of(TEXT.or_null), "the manifest has them"),
    },
)
PREFIXES = frozenset({"query_prefix", "document_prefix"})
# If any of these keys is present, the others have PyLate's defaults.
MARKS = PYLATE.keys.keys() - {"prompts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LateFiles:
    """The files of a late interaction model, in the form of sentence-transformers 6."""

    model: JsonObject
    """Content of ``config_sentence_transformers.json``."""
    defaults: JsonObject
    """Defaults of ``sentence_bert_config.json``."""
    modules: Sequence[Module]


def is_of_pylate(model: JsonObject) -> bool:
    """Whether PyLate saved the model with this ``config_sentence_transformers.json``."""
    kind = model.get("model_type")
    # Its older versions name no type.
    return kind == MODEL_TYPE or (kind is None and not PREFIXES.isdisjoint(model))


def read_pylate(
    folder: Path, file: Path, model: JsonObject, modules: Sequence[Module]
) -> LateFiles:
    """Return the files of a model that PyLate saved; `model` is the content of `file`.

    Raises SourceError if a value is of the wrong kind, and UnsupportedModelError for other modules
    than PyLate's.
    """
    check_object(folder, file, model, PYLATE)
    first, *rest = modules
    if first.kind != "Transformer" or not all(module.kind == "Dense" for module in rest):
        kinds = ", ".join(module.kind for module in modules)
        raise refusal(folder, f"it is {LATE}, as PyLate saves it, whose modules are {kinds}")
    words = model.get("skiplist_words")
    mask = {"skiplist_words": list(string.punctuation) if words is None else words}
    return LateFiles(
        model={
            "model_type": "MultiVectorEncoder",
            "prompts": _prompts(model),
            "default_prompt_name": model.get("default_prompt_name"),
            "similarity_fn_name": _score(model),
        },
        defaults=_defaults(model),
        modules=[
            first,
            *map(_as_own, rest),
            Module(type=f"{OURS}.MultiVectorMask", path=folder, config=mask),
            Module(type=f"{OURS}.Normalize", path=folder, config=dict(TOKENS)),
        ],
    )


def _as_own(module: Module) -> Module:
    """Return a Dense module of PyLate as one of sentence-transformers."""
    kind = f"{OURS}.Dense" if module.type == DENSE else module.type
    return replace(module, type=kind, config={**TOKENS, **module.config})


def _score(model: JsonObject) -> Any:
    score = model.get("similarity_fn_name")
    return score if score in ("maxsim", "meanmaxsim") else None  # others are not for such models


def _prompts(model: JsonObject) -> JsonObject:
    """Return the prompts; those of queries and documents begin with the model's prefixes."""
    prompts = dict(model.get("prompts") or {})
    for kind in ("query", "document"):
        if f"{kind}_prefix" not in model:
            continue
        prefix, prompt = model[f"{kind}_prefix"] or "", prompts.get(kind) or ""
        prompts[kind] = prefix + prompt.removeprefix(prefix)
    return prompts


def _defaults(model: JsonObject) -> JsonObject:
    """Return the lengths of queries and documents, and the expansion of queries."""
    names = ("query_length", "document_length")
    found = {name: model[name] for name in names if model.get(name) is not None}
    if "query_expansion" in model:
        return {**found, "query_expansion": model["query_expansion"]}
    if not any(name in model for name in MARKS):
        return found
    if model.get("do_query_expansion") is False:
        return {**found, "query_expansion": None}
    attended = model.get("attend_to_expansion_tokens", model.get("attend_to_mask_tokens"))
    length = found.pop("query_length", None) or LENGTH
    expansion = {"strategy": "fixed", "attend": bool(attended), "length": length}
    return {**found, "query_expansion": expansion}
