"""The architectures that no tracer supports, with the cause, so that they are refused at once."""

from __future__ import annotations

from pathlib import Path

from transformers import PretrainedConfig

from embedrt.errors import UnsupportedModelError

ELSEWHERE = "Use sentence-transformers for it, or another model"

# The number of experts, by the names that configs use.
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHUNKS = "its attention works on chunks, whose number depends on the text"

UNTRACEABLE = {
    "longformer": CHUNKS,
}
"""Cause by model type."""


def refuse_untraceable(folder: Path, config: PretrainedConfig) -> None:
    """Raise UnsupportedModelError if the architecture is known not to be traceable."""
    cause = UNTRACEABLE.get(config.model_type)
    if any((getattr(config, name, None) or 0) > 1 for name in EXPERTS):
        cause = "it is a mixture of experts, of which each token runs through others"
    if cause:
        raise UnsupportedModelError(
            f"{folder} has the architecture {config.model_type}, of which no graph can be made: "
            f"{cause}. {ELSEWHERE}"
        )
