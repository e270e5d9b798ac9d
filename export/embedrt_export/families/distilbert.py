"""DistilBERT: BERT with half the layers and without token types."""

from __future__ import annotations

from transformers import PretrainedConfig

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Lazy
from embedrt_export.source.checkpoint import Tensors

EPSILON = 1e-12  # a constant in transformers' DistilBERT, not in its config


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a DistilBERT checkpoint."""
    weights = tensors.under("distilbert.", "model.")
    return Encoder(
        word_embeddings=weights.table("embeddings.word_embeddings"),
        position_embeddings=weights.table("embeddings.position_embeddings"),
        token_types=None,
        padding_id=None,
        embedding_norm=weights.norm("embeddings.LayerNorm", EPSILON),
        layers=Lazy(
            config.n_layers, lambda index: _read_layer(weights, f"transformer.layer.{index}")
        ),
        heads=config.n_heads,
        activation=ACTIVATIONS[config.activation],
        relative_bias=None,
    )


def _read_layer(weights: Tensors, name: str) -> Layer:
    return Layer(
        query=weights.linear(f"{name}.attention.q_lin"),
        key=weights.linear(f"{name}.attention.k_lin"),
        value=weights.linear(f"{name}.attention.v_lin"),
        attention_output=weights.linear(f"{name}.attention.out_lin"),
        attention_norm=weights.norm(f"{name}.sa_layer_norm", EPSILON),
        up=weights.linear(f"{name}.ffn.lin1"),
        down=weights.linear(f"{name}.ffn.lin2"),
        output_norm=weights.norm(f"{name}.output_layer_norm", EPSILON),
    )
