"""The encoder families whose graph is built from the weights.

Each family is a module with a function ``read(config, tensors) -> Encoder``, which maps the tensor
names of a checkpoint to an `Encoder`. A model of any other family, or with a setting that a family
does not have, is left to the tracers of the `traced` package.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from transformers import PretrainedConfig

from embedrt_export.encoder import ACTIVATIONS, Encoder
from embedrt_export.families import (
    albert,
    bert,
    distilbert,
    gemma3,
    llama,
    modernbert,
    mpnet,
    roberta,
    roformer,
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
    "albert": albert.read,
    "bert": bert.read,
    "camembert": roberta.read,
    "data2vec-text": roberta.read,
    "distilbert": distilbert.read,
    "electra": bert.read_electra,
    "ernie": bert.read_ernie,
    "eurobert": llama.read,
    "gemma3_text": gemma3.read,
    "gte": rotary_bert.read,
    "jina_embeddings_v3": rotary_bert.read,
    "llama": llama.read,
    "mistral": llama.read,
    "modernbert": modernbert.read,
    "mpnet": mpnet.read,
    "mt5": t5.read,
    "nomic_bert": rotary_bert.read,
    "qwen2": llama.read,
    "qwen3": llama.read,
    "rembert": bert.read_rembert,
    "roberta": roberta.read,
    "roformer": roformer.read,
    "t5": t5.read,
    "umt5": t5.read,
    "xlm-roberta": roberta.read,
    "xlm-roberta-xl": roberta.read_xl,
}

CAUSAL = frozenset({"gemma3_text", "llama", "mistral", "qwen2", "qwen3"})
ROTARY = CAUSAL | {"eurobert", "gte", "jina_embeddings_v3", "modernbert", "nomic_bert"}
# Scalings of rotary positions by which a position's angles do not depend on the longest text.
UNBOUNDED = frozenset({"default", "linear", "llama3"})
BY_LENGTH = "longrope"  # rotations that depend on the text's length, which a table cannot represent


def find_reader(config: PretrainedConfig) -> Reader | None:
    """Return the reader for a model; None if the model has to be traced."""
    named = ("hidden_act", "hidden_activation", "activation", "dense_act_fn")
    activation = next((given for key in named if (given := getattr(config, key, None))), None)
    plain_positions = getattr(config, "position_embedding_type", "absolute") == "absolute"
    encoder_only = not getattr(config, "is_decoder", False)
    if activation in ACTIVATIONS and plain_positions and encoder_only and _is_drawn(config):
        return READERS.get(config.model_type)
    return None


def _is_drawn(config: PretrainedConfig) -> bool:
    """Whether the graph's operators take a model's heads and rotations."""
    if getattr(config, "rotary_value", False):  # RoFormer may rotate the values too
        return False
    if BY_LENGTH in kinds_of_scaling(config):
        return False
    if config.model_type not in CAUSAL:
        return True
    head_size = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    return bool(head_size % HEAD_MULTIPLE == 0)


def read_encoder(
    reader: Reader, config: PretrainedConfig, tensors: Tensors, max_seq_length: int | None = None
) -> Encoder:
    """Return the encoder, with pruned attention heads restored as zeros.

    If positions are computed and not learned, their number is at least `max_seq_length`.
    Raises UnsupportedModelError if the weights do not match the config.
    """
    encoder = reader(_lengthen(config, max_seq_length), tensors)
    require_heads(encoder)
    pruned = getattr(config, "pruned_heads", None) or {}
    encoder = restore_heads(encoder, {int(layer): heads for layer, heads in pruned.items()})
    require_shapes(encoder)
    return encoder


def _lengthen(config: PretrainedConfig, max_seq_length: int | None) -> PretrainedConfig:
    """Return the config with rotary positions for texts of `max_seq_length` tokens."""
    if config.model_type not in ROTARY or not kinds_of_scaling(config) <= UNBOUNDED:
        return config
    longer = copy.copy(config)
    longer.max_position_embeddings = max(config.max_position_embeddings, max_seq_length or 0)
    return longer
