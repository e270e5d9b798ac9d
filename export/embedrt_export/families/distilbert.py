"""DistilBERT: BERT with half the layers and without token types."""

from __future__ import annotations

from transformers import PretrainedConfig

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Lazy, Norms
from embedrt_export.source.checkpoint import Tensors

EPSILON = 1e-12  # a constant in transformers' DistilBERT, not in its config


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a DistilBERT checkpoint."""
    weights = tensors.under("distilbert.")
    return Encoder(
        word_embeddings=weights.table("embeddings.word_embeddings"),
        position_embeddings=weights.table("embeddings.position_embeddings"),
        embedding_norm=weights.norm("embeddings.LayerNorm", EPSILON),
        layers=Lazy(
            config.n_layers, lambda index: _read_layer(weights, f"transformer.layer.{index}")
        ),
        heads=config.n_heads,
        activation=ACTIVATIONS[config.activation],
    )


def _read_layer(weights: Tensors, name: str) -> Layer:
    return Layer(
        query=weights.linear(f"{name}.attention.q_lin"),
        key=weights.linear(f"{name}.attention.k_lin"),
        value=weights.linear(f"{name}.attention.v_lin"),
        attention_output=weights.linear(f"{name}.attention.out_lin"),
        attention_norms=Norms(after=weights.norm(f"{name}.sa_layer_norm", EPSILON)),
        up=weights.linear(f"{name}.ffn.lin1"),
        down=weights.linear(f"{name}.ffn.lin2"),
        feed_forward_norms=Norms(after=weights.norm(f"{name}.output_layer_norm", EPSILON)),
    )
