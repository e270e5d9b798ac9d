"""BERT, the architecture of bge, e5, gte, MiniLM and most other models, and close variants."""

from __future__ import annotations

from dataclasses import replace

from transformers import PretrainedConfig

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Lazy, Norms, Rotation
from embedrt_export.families.shapes import require_shape
from embedrt_export.source.checkpoint import Tensors


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a BERT checkpoint."""
    return read_encoder(config, tensors.under("bert."))


def read_ernie(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map an ERNIE checkpoint: BERT with the embedding of a task, which is 0 by default."""
    weights = tensors.under("ernie.")
    encoder = read_encoder(config, weights)
    positions = encoder.position_embeddings
    if not config.use_task_id or positions is None:
        return encoder
    task = weights.table("embeddings.task_type_embeddings")[0]
    require_shape("the task's embedding", task, positions.shape[1:])
    return replace(encoder, position_embeddings=positions + task)


def read_electra(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map an ELECTRA checkpoint: BERT whose embeddings may be narrower than its layers."""
    narrow = config.embedding_size != config.hidden_size
    return read_encoder(
        config, tensors.under("electra."), projection="embeddings_project" if narrow else None
    )


def read_rembert(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a RemBERT checkpoint: BERT whose embeddings are always projected."""
    return read_encoder(
        config, tensors.under("rembert."), projection="encoder.embedding_hidden_mapping_in"
    )


def read_encoder(
    config: PretrainedConfig,
    weights: Tensors,
    *,
    padding_id: int | None = None,
    projection: str | None = None,
    rotation: Rotation | None = None,
) -> Encoder:
    """Map the tensors, whose names BERT and its variants share.

    `projection` is the name of the layer after the embeddings, where there is one. With `rotation`
    there are no position embeddings.
    """
    epsilon = config.layer_norm_eps
    positions = "embeddings.position_embeddings"

    def read(index: int) -> Layer:
        name = f"encoder.layer.{index}"
        return read_layer(
            weights,
            name,
            Norms(after=weights.norm(f"{name}.attention.output.LayerNorm", epsilon)),
            Norms(after=weights.norm(f"{name}.output.LayerNorm", epsilon)),
            rotation,
        )

    return Encoder(
        word_embeddings=weights.table("embeddings.word_embeddings"),
        position_embeddings=None if rotation else weights.table(positions)[padding_id or 0 :],
        token_types=weights.table("embeddings.token_type_embeddings"),
        padding_id=padding_id,
        embedding_norm=weights.norm("embeddings.LayerNorm", epsilon),
        embedding_projection=None if projection is None else weights.linear(projection),
        layers=Lazy(config.num_hidden_layers, read),
        heads=config.num_attention_heads,
        activation=ACTIVATIONS[config.hidden_act],
    )


def read_layer(
    weights: Tensors,
    name: str,
    attention_norms: Norms,
    feed_forward_norms: Norms,
    rotation: Rotation | None = None,
) -> Layer:
    """Map a layer; its norms have other names and places in some variants."""
    return Layer(
        query=weights.linear(f"{name}.attention.self.query"),
        key=weights.linear(f"{name}.attention.self.key"),
        value=weights.linear(f"{name}.attention.self.value"),
        attention_output=weights.linear(f"{name}.attention.output.dense"),
        attention_norms=attention_norms,
        rotation=rotation,
        up=weights.linear(f"{name}.intermediate.dense"),
        down=weights.linear(f"{name}.output.dense"),
        feed_forward_norms=feed_forward_norms,
    )
