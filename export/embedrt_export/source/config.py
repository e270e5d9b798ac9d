"""Reads the encoder's ``config.json`` with transformers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.quiet import gist, quiet
from embedrt_export.source.checks import check_object, read_object, refuse_for
from embedrt_export.source.encoder_keys import ENCODER, UNHEEDED
from embedrt_export.source.loading import upgrade_advice
from embedrt_export.source.settings import Settings

logger = logging.getLogger(__name__)


# The classes of a model's own code that sentence-transformers would run, by their keys in auto_map.
RUN = ("AutoConfig", "AutoModel")
SPARSE = "block_sparse"  # the attention of BigBird for long texts, as long as no text was short


def own_code(settings: Settings) -> tuple[str, ...]:
    """Return the classes of the author's own code that define the encoder, by `auto_map`."""
    named = read_object(settings.transformer / "config.json").get("auto_map")
    paths = [named.get(key) for key in RUN] if isinstance(named, dict) else []
    return tuple(path for path in paths if isinstance(path, str) and not _is_library(path))


def _is_library(path: str) -> bool:
    return path.split(".", maxsplit=1)[0] in ("transformers", "sentence_transformers")


def read_config(settings: Settings, *, ignore_remote_code: bool = False) -> PretrainedConfig:
    """Return the encoder's config with the overrides from the settings applied.

    Raises SourceError if the file is missing or a value is of the wrong kind, and
    UnsupportedModelError if transformers or embedrt does not support the architecture.
    """
    file = settings.transformer / "config.json"
    if not file.is_file():
        raise SourceError(f"{file} is missing: it describes the encoder")
    content = read_object(file)
    refusals = check_object(settings.folder, file, content, ENCODER)
    if (unheeded := UNHEEDED.get(content.get("model_type", ""))) is not None:
        refusals += check_object(settings.folder, file, content, unheeded)
    refuse_for(settings.folder, refusals)
    own = own_code(settings)
    known = content.get("model_type") in CONFIG_MAPPING
    if own and not (known and ignore_remote_code):
        raise UnsupportedModelError(_refuse_code(file, own, content.get("model_type"), known=known))
    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(
                settings.transformer, trust_remote_code=False, **settings.config_changes
            )
    except Exception as error:  # an unknown architecture, or values that it does not take
        reason = gist(error) if "model_type" in content else "its config.json has no model_type"
        raise UnsupportedModelError(
            f"transformers does not know {settings.transformer}: {reason}"
            f"{upgrade_advice(settings.transformer)}"
        ) from error
    _require_one_encoder(file, config)
    if getattr(config, "attention_type", None) == SPARSE:
        logger.warning(
            "%s sets attention_type to %s, which transformers permanently changes to original_full "
            "at the first short text: the model is exported with original_full",
            file,
            SPARSE,
        )
    if own:
        logger.warning(
            "%s names code of the model's author (%s), which is ignored: the model is exported as "
            "transformers' own %s",
            file,
            ", ".join(own),
            config.model_type,
        )
    return config


def _require_one_encoder(file: Path, config: PretrainedConfig) -> None:
    """Raise UnsupportedModelError for a model of several parts, each of which has its own sizes."""
    # In transformers 4, some of these configs have the sizes of their text part as well.
    if "text_config" in config.sub_configs or not hasattr(config, "hidden_size"):
        raise UnsupportedModelError(
            f"{file} has the architecture {config.model_type}, which consists of "
            f"{', '.join(sorted(config.sub_configs)) or 'several models'} and is not an encoder of "
            "texts; embedrt exports only encoders of texts. Use sentence-transformers for it, or "
            "another model"
        )


def _refuse_code(file: Path, own: Sequence[str], architecture: object, *, known: bool) -> str:
    named = f"{file} names code of the model's author in auto_map ({', '.join(own)})"
    if not known:
        return (
            f"{named}. Without this code, transformers does not support the architecture "
            f"{architecture}, and embedrt runs no code that comes with a model. Use "
            "sentence-transformers for this model, or another model"
        )
    return (
        f"{named}, and embedrt runs no code that comes with a model. transformers' own "
        f"{architecture} may compute something else. If you know that it computes the same, "
        "export with --ignore-remote-code (in Python: ignore_remote_code=True); otherwise use "
        "sentence-transformers for this model, or another one"
    )
