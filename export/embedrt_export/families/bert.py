"""BERT, the architecture of bge, e5, gte, MiniLM and most other models."""

from __future__ import annotations

from transformers import PretrainedConfig

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Lazy
from embedrt_export.source.checkpoint import Tensors


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a BERT checkpoint."""
    return read_encoder(config, tensors.under("bert.", "model."), padding_id=None)


def read_encoder(config: PretrainedConfig, weights: Tensors, *, padding_id: int | None) -> Encoder:
    """Map the tensors, whose names BERT and RoBERTa share."""
    epsilon = config.layer_norm_eps
    return Encoder(
        word_embeddings=weights.table("embeddings.word_embeddings"),
        position_embeddings=weights.table("embeddings.position_embeddings")[padding_id or 0 :],
        token_types=weights.table("embeddings.token_type_embeddings"),
        padding_id=padding_id,
        embedding_norm=weights.norm("embeddings.LayerNorm", epsilon),
        layers=Lazy(
            config.num_hidden_layers,
            lambda index: _read_layer(weights, f"encoder.layer.{index}", epsilon),
        ),
        heads=config.num_attention_heads,
        activation=ACTIVATIONS[config.hidden_act],
        relative_bias=None,
    )


def _read_layer(weights: Tensors, name: str, epsilon: float) -> Layer:
    return Layer(
        query=weights.linear(f"{name}.attention.self.query"),
        key=weights.linear(f"{name}.attention.self.key"),
        value=weights.linear(f"{name}.attention.self.value"),
        attention_output=weights.linear(f"{name}.attention.output.dense"),
        attention_norm=weights.norm(f"{name}.attention.output.LayerNorm", epsilon),
        up=weights.linear(f"{name}.intermediate.dense"),
        down=weights.linear(f"{name}.output.dense"),
        output_norm=weights.norm(f"{name}.output.LayerNorm", epsilon),
    )
