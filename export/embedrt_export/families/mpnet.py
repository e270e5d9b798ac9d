"""MPNet: BERT with a bias on attention scores by relative position, shared by all layers."""

from __future__ import annotations

from transformers import PretrainedConfig

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Lazy, Norms
from embedrt_export.families.relative import bias_by_distance
from embedrt_export.source.checkpoint import Tensors

PADDING_ID = 1  # a constant in transformers' MPNet, independent of the config


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map an MPNet checkpoint."""
    weights = tensors.under("mpnet.")
    epsilon = config.layer_norm_eps
    positions = weights.table("embeddings.position_embeddings")[PADDING_ID:]
    return Encoder(
        word_embeddings=weights.table("embeddings.word_embeddings"),
        position_embeddings=positions,
        padding_id=PADDING_ID,
        embedding_norm=weights.norm("embeddings.LayerNorm", epsilon),
        layers=Lazy(
            config.num_hidden_layers,
            lambda index: _read_layer(weights, f"encoder.layer.{index}", epsilon),
        ),
        heads=config.num_attention_heads,
        activation=ACTIVATIONS[config.hidden_act],
        relative_bias=bias_by_distance(
            weights.table("encoder.relative_attention_bias"), len(positions) - 2
        ),
    )


def _read_layer(weights: Tensors, name: str, epsilon: float) -> Layer:
    return Layer(
        query=weights.linear(f"{name}.attention.attn.q"),
        key=weights.linear(f"{name}.attention.attn.k"),
        value=weights.linear(f"{name}.attention.attn.v"),
        attention_output=weights.linear(f"{name}.attention.attn.o"),
        attention_norms=Norms(after=weights.norm(f"{name}.attention.LayerNorm", epsilon)),
        up=weights.linear(f"{name}.intermediate.dense"),
        down=weights.linear(f"{name}.output.dense"),
        feed_forward_norms=Norms(after=weights.norm(f"{name}.output.LayerNorm", epsilon)),
    )
