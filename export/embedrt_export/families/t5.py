"""The encoder of T5, mT5 and UMT5, as in sentence-t5 and gtr.

Positions are relative, and attention is not scaled. The layers share the relative bias of the first
one, except in UMT5. The decoder is not read.
"""

from __future__ import annotations

from transformers import PretrainedConfig

from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import ACTIVATIONS, Encoder, FloatArray, Layer, Lazy, Linear, Norms
from embedrt_export.families.relative import bias_by_distance
from embedrt_export.source.checkpoint import Tensors


def read(config: PretrainedConfig, weights: Tensors) -> Encoder:
    """Map a T5, mT5 or UMT5 checkpoint, with or without its decoder."""
    table = "shared" if weights.has("shared.weight") else "encoder.embed_tokens"
    return Encoder(
        word_embeddings=weights.table(table),
        layers=Lazy(config.num_layers, lambda index: _read_layer(weights, config, index)),
        final_norm=weights.rms_norm("encoder.final_layer_norm", config.layer_norm_epsilon),
        heads=config.num_heads,
        head_size=config.d_kv,
        scale=1.0,
        activation=ACTIVATIONS[config.dense_act_fn],
        relative_bias=None if _varies(config) else _read_bias(weights, config, 0),
    )


def _varies(config: PretrainedConfig) -> bool:
    """Whether each layer has a relative bias of its own."""
    return config.model_type == "umt5"


def _read_bias(weights: Tensors, config: PretrainedConfig, index: int) -> FloatArray:
    name = f"encoder.block.{index}.layer.0.SelfAttention.relative_attention_bias"
    by_bucket, furthest = weights.table(name), config.relative_attention_max_distance
    # A quarter of the buckets, those of each direction, is one a distance.
    if furthest <= len(by_bucket) // 4:
        raise UnsupportedModelError(
            f"config.json sets relative_attention_max_distance to {furthest}: more than a quarter "
            f"of the {len(by_bucket)} buckets of relative positions is expected"
        )
    return bias_by_distance(by_bucket, furthest, max_distance=furthest)


def _read_layer(weights: Tensors, config: PretrainedConfig, index: int) -> Layer:
    name, epsilon = f"encoder.block.{index}.layer", config.layer_norm_epsilon
    feed_forward = f"{name}.1.DenseReluDense"

    def linear(part: str) -> Linear:
        return weights.linear(part, bias=False)

    query, key, value, output = (linear(f"{name}.0.SelfAttention.{part}") for part in "qkvo")
    gated = config.is_gated_act
    return Layer(
        query=query,
        key=key,
        value=value,
        relative_bias=_read_bias(weights, config, index) if _varies(config) else None,
        attention_output=output,
        attention_norms=Norms(before=weights.rms_norm(f"{name}.0.layer_norm", epsilon)),
        gate=linear(f"{feed_forward}.wi_0") if gated else None,
        up=linear(f"{feed_forward}.wi_1" if gated else f"{feed_forward}.wi"),
        down=linear(f"{feed_forward}.wo"),
        feed_forward_norms=Norms(before=weights.rms_norm(f"{name}.1.layer_norm", epsilon)),
    )
