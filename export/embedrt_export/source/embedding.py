"""Reads the settings of an embedding model.

The settings come from ``modules.json``, the modules' ``config.json``,
``sentence_bert_config.json``, ``config_sentence_transformers.json`` and ``tokenizer_config.json``.
Truncation and padding in ``tokenizer.json`` are ignored, because they are left over from training:
for all-MiniLM-L6-v2 the file truncates to 128 tokens, the model to 256. `keys` defines how each key
is handled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from embedrt.bundle.manifest import Similarity
from embedrt_export.head import Head, Truncate, drop_unread
from embedrt_export.source.checks import JsonObject, check_object, read_object, refuse_for
from embedrt_export.source.head import check_head, read_head_module
from embedrt_export.source.keys import MODEL
from embedrt_export.source.model import Settings
from embedrt_export.source.modules import MODULES, Module, foreign_modules, read_modules
from embedrt_export.source.other_models import refuse_adapter, refuse_folder, refuse_kind
from embedrt_export.source.prompts import EXTRAS, read_prompts
from embedrt_export.source.transformer import check_transformer, read_transformer_file

WEIGHTED_MODULES = frozenset({"Dense", "LayerNorm"})


def read_embedding(folder: Path) -> Settings:
    """Read the settings of the embedding model in `folder`, and the weights of its head.

    Raises SourceError if the folder holds no model or a value in its files is of the wrong kind,
    and UnsupportedModelError with all reasons why the model cannot be exported.
    """
    if not (folder / MODULES).is_file():
        refuse_folder(folder)
    first, *rest = modules = read_modules(folder)
    model_file = folder / EXTRAS
    model = read_object(model_file)
    transformer = read_transformer_file(first.path)
    refuse_kind(folder, model, [module.kind for module in modules], transformer.content)
    reasons = foreign_modules(modules)
    if first.kind != "Transformer":
        reasons.append(f"it starts with {first.kind}, not with a Transformer")
    reasons += check_transformer(folder, first.path, transformer)
    reasons += check_head(folder, rest)
    prompts, default_prompt_name = read_prompts(model, model_file)
    reasons += check_object(folder, model_file, model, MODEL)
    similarity, unknown = read_similarity(model)
    reasons += unknown
    refuse_for(folder, reasons)
    refuse_adapter(first.path)
    return Settings(
        task="embedding",
        folder=folder,
        transformer=first.path,
        config_changes=transformer.config_changes,
        max_seq_length=transformer.content.get("max_seq_length"),
        head=read_head(rest, model),
        weight_folders=(first.path, *(m.path for m in rest if m.kind in WEIGHTED_MODULES)),
        similarity=similarity,
        prompts=prompts,
        default_prompt_name=default_prompt_name,
    )


def read_similarity(model: JsonObject) -> tuple[Similarity | None, list[str]]:
    """Return the similarity that a model's own file names, and the reason to refuse it, if any."""
    similarity = model.get("similarity_fn_name")
    known = (None, *get_args(Similarity))
    if similarity in known:
        return similarity, []
    return None, [f"its similarity_fn_name {similarity!r} is not one of {known[1:]}"]


def read_head(modules: Sequence[Module], model: JsonObject) -> Head:
    """Return the modules after the first as data, with the model's own truncation."""
    read = [found for module in modules if (found := read_head_module(module)) is not None]
    if (dimension := model.get("truncate_dim")) is not None:
        read.append(Truncate(dimension=dimension))
    return drop_unread(read)
