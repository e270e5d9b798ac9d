"""Gemma 3, the encoder of EmbeddingGemma: norms around both parts of a block, two rotations."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
from transformers import PretrainedConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Lazy, Norms, RmsNorm, Rotation
from embedrt_export.families.rotations import BY_KIND, tabulate
from embedrt_export.source.checkpoint import Tensors

SLIDING = "sliding_attention"


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a Gemma 3 checkpoint."""
    weights = tensors.under("model.")
    rotations = {kind: _rotation(config, kind) for kind in sorted(set(config.layer_types))}
    return Encoder(
        word_embeddings=weights.table("embed_tokens"),
        embedding_scale=math.sqrt(config.hidden_size),
        layers=Lazy(
            config.num_hidden_layers,
            lambda index: _read_layer(weights, config, index, rotations[config.layer_types[index]]),
        ),
        final_norm=_norm(weights, "norm", config),
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        scale=config.query_pre_attn_scalar**-0.5,
        activation=ACTIVATIONS[config.hidden_activation],
        causal=not config.use_bidirectional_attention,
    )


def _read_layer(
    weights: Tensors, config: PretrainedConfig, index: int, rotation: Rotation
) -> Layer:
    name = f"layers.{index}"
    attention, feed_forward = f"{name}.self_attn", f"{name}.mlp"
    bias = config.attention_bias
    return Layer(
        query=weights.linear(f"{attention}.q_proj", bias=bias),
        key=weights.linear(f"{attention}.k_proj", bias=bias),
        value=weights.linear(f"{attention}.v_proj", bias=bias),
        query_norm=_norm(weights, f"{attention}.q_norm", config),
        key_norm=_norm(weights, f"{attention}.k_norm", config),
        attention_output=weights.linear(f"{attention}.o_proj", bias=bias),
        attention_norms=Norms(
            before=_norm(weights, f"{name}.input_layernorm", config),
            inner=_norm(weights, f"{name}.post_attention_layernorm", config),
        ),
        rotation=rotation,
        # Both a causal window and one on both sides count the token itself.
        reach=config.sliding_window - 1 if config.layer_types[index] == SLIDING else None,
        gate=weights.linear(f"{feed_forward}.gate_proj", bias=False),
        up=weights.linear(f"{feed_forward}.up_proj", bias=False),
        down=weights.linear(f"{feed_forward}.down_proj", bias=False),
        feed_forward_norms=Norms(
            before=_norm(weights, f"{name}.pre_feedforward_layernorm", config),
            inner=_norm(weights, f"{name}.post_feedforward_layernorm", config),
        ),
    )


def _norm(weights: Tensors, name: str, config: PretrainedConfig) -> RmsNorm:
    """Return a norm, whose stored weight is a difference from 1."""
    norm = weights.rms_norm(name, config.rms_norm_eps)
    return replace(norm, weight=np.float32(1) + norm.weight)


def _rotation(config: Any, kind: str) -> Rotation:
    """Return the rotation of the layers of one kind, which has a base frequency of its own."""
    positions = config.max_position_embeddings
    if BY_KIND:
        return tabulate(Gemma3RotaryEmbedding, config, positions, layer_type=kind)
    if kind == SLIDING:
        config = copy.deepcopy(config)
        config.rope_theta = config.rope_local_base_freq
        config.rope_scaling = {"rope_type": "default"}
    return tabulate(Gemma3RotaryEmbedding, config, positions)
