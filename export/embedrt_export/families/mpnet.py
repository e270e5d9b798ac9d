"""MPNet: BERT with a bias on attention scores by relative position, shared by all layers."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from embedrt_export.encoder import ACTIVATIONS, Encoder, FloatArray, Layer, Lazy
from embedrt_export.source.checkpoint import Tensors

PADDING_ID = 1  # a constant in transformers' MPNet, independent of the config


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map an MPNet checkpoint."""
    weights = tensors.under("mpnet.", "model.")
    epsilon = config.layer_norm_eps
    positions = weights.table("embeddings.position_embeddings")[PADDING_ID:]
    return Encoder(
        word_embeddings=weights.table("embeddings.word_embeddings"),
        position_embeddings=positions,
        token_types=None,
        padding_id=PADDING_ID,
        embedding_norm=weights.norm("embeddings.LayerNorm", epsilon),
        layers=Lazy(
            config.num_hidden_layers,
            lambda index: _read_layer(weights, f"encoder.layer.{index}", epsilon),
        ),
        heads=config.num_attention_heads,
        activation=ACTIVATIONS[config.hidden_act],
        relative_bias=_relative_bias(
            weights.table("encoder.relative_attention_bias"), len(positions) - 1
        ),
    )


def _relative_bias(by_bucket: FloatArray, positions: int) -> FloatArray:
    """Map the bias from buckets, (buckets, heads), to distances, (heads, 2 * positions - 1).

    The buckets are T5's (Raffel et al. 2019, arXiv:1910.10683, section 2.1).
    """
    distances = torch.arange(-(positions - 1), positions)
    buckets = MPNetEncoder.relative_position_bucket(distances, num_buckets=len(by_bucket))
    by_distance: FloatArray = by_bucket[buckets.numpy()].T
    return by_distance


def _read_layer(weights: Tensors, name: str, epsilon: float) -> Layer:
    return Layer(
        query=weights.linear(f"{name}.attention.attn.q"),
        key=weights.linear(f"{name}.attention.attn.k"),
        value=weights.linear(f"{name}.attention.attn.v"),
        attention_output=weights.linear(f"{name}.attention.attn.o"),
        attention_norm=weights.norm(f"{name}.attention.LayerNorm", epsilon),
        up=weights.linear(f"{name}.intermediate.dense"),
        down=weights.linear(f"{name}.output.dense"),
        output_norm=weights.norm(f"{name}.output.LayerNorm", epsilon),
    )
