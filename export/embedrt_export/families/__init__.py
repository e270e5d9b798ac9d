"""The encoder families whose graph is built from the weights.

Each family is a module with a function ``read(config, tensors) -> Encoder``, which maps the tensor
names of a checkpoint to an `Encoder`.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import PretrainedConfig

from embedrt_export.encoder import ACTIVATIONS, Encoder
from embedrt_export.families import (
    bert,
    distilbert,
    gemma3,
    llama,
    modernbert,
    mpnet,
    roberta,
    rotary_bert,
    t5,
)
from embedrt_export.families.pruning import restore_heads
from embedrt_export.families.rotations import kinds_of_scaling
from embedrt_export.families.shapes import require_heads, require_shapes
from embedrt_export.graph.causal import HEAD_MULTIPLE
from embedrt_export.source.checkpoint import Tensors

Reader = Callable[[PretrainedConfig, Tensors], Encoder]

READERS: dict[str, Reader] = {
    "bert": bert.read,
    "roberta": roberta.read,
    "xlm-roberta": roberta.read,
    "camembert": roberta.read,
    "distilbert": distilbert.read,
    "eurobert": llama.read,
    "gte": rotary_bert.read,
    "jina_embeddings_v3": rotary_bert.read,
    "mt5": t5.read,
    "nomic_bert": rotary_bert.read,
    "t5": t5.read,
    "gemma3_text": gemma3.read,
    "llama": llama.read,
    "mistral": llama.read,
    "modernbert": modernbert.read,
    "mpnet": mpnet.read,
    "qwen2": llama.read,
    "qwen3": llama.read,
}

CAUSAL = frozenset({"gemma3_text", "llama", "mistral", "qwen2", "qwen3"})
BY_LENGTH = "longrope"  # rotations that depend on the text's length, which no table can say


def find_reader(config: PretrainedConfig) -> Reader | None:
    """Return the reader for a model; None if the model has to be traced."""
    named = ("hidden_act", "hidden_activation", "activation", "dense_act_fn")
    activation = next((given for key in named if (given := getattr(config, key, None))), None)
    plain_positions = getattr(config, "position_embedding_type", "absolute") == "absolute"
    encoder_only = not getattr(config, "is_decoder", False)
    drawn = config.model_type not in CAUSAL or _is_drawn(config)
    if activation in ACTIVATIONS and plain_positions and encoder_only and drawn:
        return READERS.get(config.model_type)
    return None


def _is_drawn(config: PretrainedConfig) -> bool:
    """Whether the operators of a causal graph take a model's heads and rotations."""
    head_size = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    return head_size % HEAD_MULTIPLE == 0 and BY_LENGTH not in kinds_of_scaling(config)


def read_encoder(reader: Reader, config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Return the encoder, with pruned attention heads restored as zeros.

    Raises UnsupportedModelError if the weights do not match the config.
    """
    encoder = reader(config, tensors)
    require_heads(encoder)
    pruned = getattr(config, "pruned_heads", None) or {}
    encoder = restore_heads(encoder, {int(layer): heads for layer, heads in pruned.items()})
    require_shapes(encoder)
    return encoder
