"""Llama, Mistral, Qwen2, Qwen3 and EuroBERT: one architecture with several dialects.

All normalize with RMS before attention and before a gated feed-forward layer, rotate queries and
keys, and share key heads among query heads. They differ in biases, in norms of queries and keys,
and in where attention is limited to a window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from transformers import PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.mistral.modeling_mistral import MistralRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Lazy, Norms, Rotation
from embedrt_export.families.rotations import tabulate
from embedrt_export.source.checkpoint import Tensors

SLIDING = "sliding_attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The differences between the families."""

    rotary: Callable[..., nn.Module]
    projection_bias: bool
    """Whether queries, keys and values have a bias."""
    output_bias: bool
    feed_forward_bias: bool
    head_norms: bool
    """Whether each head of the queries and keys is normalized."""


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a checkpoint of any of these families."""
    dialect = _dialect(config)
    weights = tensors.under("model.")
    rotation = tabulate(dialect.rotary, config, config.max_position_embeddings)
    return Encoder(
        word_embeddings=weights.table("embed_tokens"),
        layers=Lazy(
            config.num_hidden_layers,
            lambda index: _read_layer(weights, config, dialect, index, rotation),
        ),
        final_norm=weights.rms_norm("norm", config.rms_norm_eps),
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=getattr(config, "head_dim", None),
        activation=ACTIVATIONS[config.hidden_act],
        causal=is_causal(config),
    )


def is_causal(config: PretrainedConfig) -> bool:
    """Whether tokens attend only to earlier tokens; in transformers 5, the config decides."""
    return config.model_type != "eurobert" and bool(getattr(config, "is_causal", True))


def _dialect(config: PretrainedConfig) -> Dialect:
    attention_bias = getattr(config, "attention_bias", False)
    match config.model_type:
        case "qwen3":
            return Dialect(
                rotary=Qwen3RotaryEmbedding,
                projection_bias=attention_bias,
                output_bias=attention_bias,
                feed_forward_bias=False,
                head_norms=True,
            )
        case "qwen2":
            return Dialect(
                rotary=Qwen2RotaryEmbedding,
                projection_bias=True,
                output_bias=False,
                feed_forward_bias=False,
                head_norms=False,
            )
        case "mistral":
            return Dialect(
                rotary=MistralRotaryEmbedding,
                projection_bias=False,
                output_bias=False,
                feed_forward_bias=False,
                head_norms=False,
            )
    return Dialect(
        rotary=LlamaRotaryEmbedding,
        projection_bias=attention_bias,
        output_bias=attention_bias,
        feed_forward_bias=config.mlp_bias,
        head_norms=False,
    )


def _read_layer(
    weights: Tensors, config: PretrainedConfig, dialect: Dialect, index: int, rotation: Rotation
) -> Layer:
    name, epsilon = f"layers.{index}", config.rms_norm_eps
    attention, feed_forward = f"{name}.self_attn", f"{name}.mlp"
    projected, fed = dialect.projection_bias, dialect.feed_forward_bias
    return Layer(
        query=weights.linear(f"{attention}.q_proj", bias=projected),
        key=weights.linear(f"{attention}.k_proj", bias=projected),
        value=weights.linear(f"{attention}.v_proj", bias=projected),
        query_norm=weights.rms_norm(f"{attention}.q_norm", epsilon) if dialect.head_norms else None,
        key_norm=weights.rms_norm(f"{attention}.k_norm", epsilon) if dialect.head_norms else None,
        attention_output=weights.linear(f"{attention}.o_proj", bias=dialect.output_bias),
        attention_norms=Norms(before=weights.rms_norm(f"{name}.input_layernorm", epsilon)),
        rotation=rotation,
        reach=_reach(config, index),
        gate=weights.linear(f"{feed_forward}.gate_proj", bias=fed),
        up=weights.linear(f"{feed_forward}.up_proj", bias=fed),
        down=weights.linear(f"{feed_forward}.down_proj", bias=fed),
        feed_forward_norms=Norms(
            before=weights.rms_norm(f"{name}.post_attention_layernorm", epsilon)
        ),
    )


def _reach(config: PretrainedConfig, index: int) -> int | None:
    """Return how many positions away a layer attends; None for all.

    A causal window counts the token itself; one on both sides does not.
    """
    window: int | None = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if config.model_type in ("llama", "eurobert") or window is None:
        return None
    if config.model_type != "mistral" and (kinds is None or kinds[index] != SLIDING):
        return None
    return window - 1 if is_causal(config) else window
