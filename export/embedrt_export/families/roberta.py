"""RoBERTa, XLM-R, CamemBERT and data2vec: BERT with positions that start after the padding id.

A text can contain the padding token literally. Such a token has the padding position and does not
advance the positions after it (``create_position_ids_from_input_ids`` in transformers).
"""

from __future__ import annotations

from transformers import PretrainedConfig

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Lazy, Norms
from embedrt_export.families.bert import read_encoder, read_layer
from embedrt_export.source.checkpoint import Tensors


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a RoBERTa checkpoint."""
    weights = tensors.under("roberta.", "data2vec_text.")
    return read_encoder(config, weights, padding_id=config.pad_token_id)


def read_xl(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map an XLM-R XL checkpoint: norms before instead of after, and none of the embeddings."""
    weights = tensors.under("roberta.")
    epsilon = config.layer_norm_eps

    def read(index: int) -> Layer:
        name = f"encoder.layer.{index}"
        return read_layer(
            weights,
            name,
            Norms(before=weights.norm(f"{name}.attention.self_attn_layer_norm", epsilon)),
            Norms(before=weights.norm(f"{name}.LayerNorm", epsilon)),
        )

    return Encoder(
        word_embeddings=weights.table("embeddings.word_embeddings"),
        position_embeddings=weights.table("embeddings.position_embeddings")[config.pad_token_id :],
        token_types=weights.table("embeddings.token_type_embeddings"),
        padding_id=config.pad_token_id,
        layers=Lazy(config.num_hidden_layers, read),
        final_norm=weights.norm("encoder.LayerNorm", epsilon),
        heads=config.num_attention_heads,
        activation=ACTIVATIONS[config.hidden_act],
    )
