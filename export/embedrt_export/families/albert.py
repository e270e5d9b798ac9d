"""ALBERT: BERT with narrow embeddings, whose layers share their weights (arXiv:1909.11942)."""

from __future__ import annotations

from transformers import PretrainedConfig

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Norms
from embedrt_export.source.checkpoint import Tensors


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map an ALBERT checkpoint."""
    weights = tensors.under("albert.")
    epsilon = config.layer_norm_eps
    groups = [
        [
            _read_layer(
                weights, f"encoder.albert_layer_groups.{group}.albert_layers.{inner}", epsilon
            )
            for inner in range(config.inner_group_num)
        ]
        for group in range(config.num_hidden_groups)
    ]
    by_group = config.num_hidden_layers / config.num_hidden_groups
    return Encoder(
        word_embeddings=weights.table("embeddings.word_embeddings"),
        position_embeddings=weights.table("embeddings.position_embeddings"),
        token_types=weights.table("embeddings.token_type_embeddings"),
        embedding_norm=weights.norm("embeddings.LayerNorm", epsilon),
        embedding_projection=weights.linear("encoder.embedding_hidden_mapping_in"),
        layers=tuple(
            layer
            for index in range(config.num_hidden_layers)
            for layer in groups[int(index / by_group)]
        ),
        heads=config.num_attention_heads,
        activation=ACTIVATIONS[config.hidden_act],
    )


def _read_layer(weights: Tensors, name: str, epsilon: float) -> Layer:
    return Layer(
        query=weights.linear(f"{name}.attention.query"),
        key=weights.linear(f"{name}.attention.key"),
        value=weights.linear(f"{name}.attention.value"),
        attention_output=weights.linear(f"{name}.attention.dense"),
        attention_norms=Norms(after=weights.norm(f"{name}.attention.LayerNorm", epsilon)),
        up=weights.linear(f"{name}.ffn"),
        down=weights.linear(f"{name}.ffn_output"),
        feed_forward_norms=Norms(after=weights.norm(f"{name}.full_layer_layer_norm", epsilon)),
    )
