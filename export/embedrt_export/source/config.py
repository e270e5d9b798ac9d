"""Reads the encoder's ``config.json`` with transformers."""

from __future__ import annotations

import logging

from transformers import AutoConfig, PretrainedConfig

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.quiet import gist, quiet
from embedrt_export.source.checks import check_object, read_object
from embedrt_export.source.keys import ENCODER
from embedrt_export.source.loading import upgrade_advice
from embedrt_export.source.settings import Settings

logger = logging.getLogger(__name__)


def read_config(settings: Settings) -> PretrainedConfig:
    """Return the encoder's config with the overrides from the settings applied.

    Raises SourceError if the file is missing or a value is of the wrong kind, and
    UnsupportedModelError if transformers or embedrt does not support the architecture.
    """
    file = settings.transformer / "config.json"
    if not file.is_file():
        raise SourceError(f"{file} is missing: without it nothing says what the encoder is")
    content = read_object(file)
    refusals = check_object(settings.folder, file, content, ENCODER)
    if refusals:
        raise UnsupportedModelError(f"{settings.folder} cannot be exported: {'; '.join(refusals)}")
    own_code = content.get("auto_map")
    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(
                settings.transformer, trust_remote_code=False, **settings.config_changes
            )
    except Exception as error:  # an unknown architecture, or one that requires custom code
        if own_code:
            raise UnsupportedModelError(
                f"{file} names code of the model's author (auto_map) for the architecture "
                f"{content.get('model_type')}, which transformers does not know without it; "
                "embedrt runs no code that comes with a model"
            ) from error
        reason = gist(error) if "model_type" in content else "its config.json has no model_type"
        raise UnsupportedModelError(
            f"transformers does not know {settings.transformer}: {reason}"
            f"{upgrade_advice(settings.transformer)}"
        ) from error
    if own_code:
        logger.warning(
            "%s names code of the model's author (auto_map), which is not run: the model is "
            "exported as transformers' own %s",
            file,
            config.model_type,
        )
    return config
