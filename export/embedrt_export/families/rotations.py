"""Tables of rotary positions, computed by the modules of transformers that the models use."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PretrainedConfig

from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import FloatArray, Rotation
from embedrt_export.quiet import gist

# transformers 5 has one module for all kinds of layers, which takes the kind; transformers 4 has a
# module for one kind.
BY_KIND = int(transformers.__version__.partition(".")[0]) >= 5


def kinds_of_scaling(config: PretrainedConfig) -> set[str]:
    """Return the kinds of scaled rotary positions in a config of transformers 4 or 5."""
    named = _described(config)
    settings = [named, *(inner for inner in named.values() if isinstance(inner, dict))]
    return {str(inner[key]) for inner in settings for key in ("rope_type", "type") if key in inner}


def _described(config: PretrainedConfig) -> dict[str, Any]:
    return getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}


def tabulate(
    rotary: Callable[..., nn.Module], config: PretrainedConfig, positions: int, **options: Any
) -> Rotation:
    """Return the cosines and sines of the module `rotary` of a config for all positions.

    The module maps positions to cosines and sines, each repeated for the two components of a pair,
    as all of transformers' modules with rotated halves do. `options` are further arguments of its
    forward. Raises UnsupportedModelError if transformers cannot compute them.
    """
    try:
        with torch.no_grad():
            module = rotary(config)
            cosines, sines = module(torch.zeros(1), torch.arange(positions)[None], **options)
    except Exception as error:  # settings that transformers' config does not check
        raise UnsupportedModelError(
            "transformers does not compute the rotary positions that config.json describes by "
            f"{reprlib.repr(_described(config))} ({gist(error)}). Correct them or, if the model is "
            "newer, upgrade transformers"
        ) from error
    return Rotation(cosines=_by_pair(cosines), sines=_by_pair(sines))


def _by_pair(values: torch.Tensor) -> FloatArray:
    pairs: FloatArray = values[0, :, : values.shape[-1] // 2].contiguous().numpy()
    return pairs
