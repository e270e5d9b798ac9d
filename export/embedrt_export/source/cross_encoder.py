"""Reads the settings of a cross-encoder.

Most cross-encoders are just a classifier of transformers, without ``modules.json``. For these,
sentence-transformers reads ``config.json`` and the tokenizer's settings, and no other file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from embedrt.bundle.manifest import ScoreActivation
from embedrt_export.source.checks import (
    OBJECT,
    TEXT,
    JsonObject,
    check_object,
    read_object,
    refuse_for,
    require_kind,
)
from embedrt_export.source.keys import MODEL
from embedrt_export.source.model import Settings
from embedrt_export.source.modules import MODULES, read_modules
from embedrt_export.source.other_models import refuse_adapter
from embedrt_export.source.prompts import EXTRAS, read_prompts
from embedrt_export.source.transformer import (
    TransformerFile,
    check_transformer,
    read_transformer_file,
)

OLD_KEY = "sbert_ce_default_activation_function"  # of sentence-transformers before version 4

logger = logging.getLogger(__name__)


def read_cross_encoder(folder: Path) -> Settings:
    """Read the settings of the cross-encoder in `folder`.

    Raises SourceError if a value in its files is of the wrong kind, and UnsupportedModelError with
    all reasons why the model cannot be exported.
    """
    modular = (folder / MODULES).is_file()
    first, *rest = read_modules(folder) if modular else [None]
    path = first.path if first else folder
    transformer = read_transformer_file(path) if first else TransformerFile(path, {})
    file = folder / EXTRAS
    model = read_object(file) if modular else {}
    reasons = check_transformer(folder, path, transformer, "reranking")
    reasons += check_object(folder, file, model, MODEL)
    if first and (first.type.rpartition(".")[2] != "Transformer" or rest):
        kinds = ", ".join(module.kind for module in (first, *rest))
        reasons.append(f"its modules are {kinds}, and a cross-encoder has only one Transformer")
    if first and model.get("model_type") != "CrossEncoder":
        reasons.append(
            f"it has a classifier's transformer_task, and the model_type in {EXTRAS} is "
            f"{model.get('model_type')!r} and not CrossEncoder"
        )
    activation, refused = read_activation(path, file, model)
    reasons += refused
    refuse_for(folder, reasons)
    refuse_adapter(path)
    prompts, default_prompt_name = read_prompts(model, file)
    return Settings(
        task="reranking",
        folder=folder,
        transformer=path,
        config_changes=transformer.config_changes,
        max_seq_length=transformer.content.get("max_seq_length"),
        head=(),
        weight_folders=(path,),
        similarity="dot",
        prompts=prompts,
        default_prompt_name=default_prompt_name,
        activation=activation,
    )


def read_activation(
    folder: Path, file: Path, model: JsonObject
) -> tuple[ScoreActivation | None, list[str]]:
    """Return the activation of the scores, and the reasons why it cannot be honored.

    None means the default, which depends on the number of labels. `model` is the content of `file`;
    if it does not name the activation, ``config.json`` in `folder` may do so.
    """
    for place, name, path in _named(folder, file, model):
        if path is None:
            continue
        require_kind(place, name, path, TEXT)
        if not path.startswith("torch."):
            logger.warning(
                "%s sets %s to %s, which is not torch's: sentence-transformers does not run it "
                "and takes the default",
                place,
                name,
                path,
            )
            continue
        kind = path.rpartition(".")[2]
        if kind not in get_args(ScoreActivation):
            known = ", ".join(get_args(ScoreActivation))
            return None, [
                f"{place.name} sets {name} to {path}, which is not one of torch's {known}"
            ]
        return kind, []
    return None, []


def _named(folder: Path, file: Path, model: JsonObject) -> list[tuple[Path, str, Any]]:
    """Return the places that can name the activation, in the order of precedence."""
    place = folder / "config.json"
    config = read_object(place)
    own = config.get("sentence_transformers")
    named: list[tuple[Path, str, Any]] = [(file, "activation_fn", model.get("activation_fn"))]
    if own is not None:
        require_kind(place, "sentence_transformers", own, OBJECT)
    if isinstance(own, Mapping) and "activation_fn" in own:
        named.append((place, "sentence_transformers.activation_fn", own["activation_fn"]))
    else:
        named.append((place, OLD_KEY, config.get(OLD_KEY)))
    return named
