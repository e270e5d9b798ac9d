"""The encoder families whose graph is built from their weights.

A family is a module with a ``read(config, tensors) -> Encoder``: the map from the names in a
checkpoint to the one common description.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import PretrainedConfig

from embedrt_export.encoder import ACTIVATIONS, Encoder
from embedrt_export.families import bert, distilbert, mpnet, roberta
from embedrt_export.source.checkpoint import Tensors

Reader = Callable[[PretrainedConfig, Tensors], Encoder]

READERS: dict[str, Reader] = {
    "bert": bert.read,
    "roberta": roberta.read,
    "xlm-roberta": roberta.read,
    "camembert": roberta.read,
    "distilbert": distilbert.read,
    "mpnet": mpnet.read,
}


def find_reader(config: PretrainedConfig) -> Reader | None:
    """Return the reader for a model, or None where only tracing can take it."""
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    plain_positions = getattr(config, "position_embedding_type", "absolute") == "absolute"
    encoder_only = not getattr(config, "is_decoder", False)
    if activation in ACTIVATIONS and plain_positions and encoder_only:
        return READERS.get(config.model_type)
    return None
