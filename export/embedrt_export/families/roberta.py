"""RoBERTa, XLM-R and CamemBERT: BERT whose positions count from the padding id."""

from __future__ import annotations

from transformers import PretrainedConfig

from embedrt_export.checkpoint import Tensors
from embedrt_export.encoder import ACTIVATIONS, Encoder
from embedrt_export.families.bert import read_layer


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a RoBERTa checkpoint.

    A text may hold the padding token by name; such a token takes the padding's position and does
    not count for those that follow (``create_position_ids_from_input_ids`` in transformers).
    """
    weights = tensors.under("roberta.", "model.")
    epsilon = config.layer_norm_eps
    token_type = weights.array("embeddings.token_type_embeddings.weight")[0]
    positions = weights.array("embeddings.position_embeddings.weight")[config.pad_token_id :]
    return Encoder(
        word_embeddings=weights.array("embeddings.word_embeddings.weight"),
        position_embeddings=positions + token_type,
        padding_id=config.pad_token_id,
        embedding_norm=weights.norm("embeddings.LayerNorm", epsilon),
        layers=tuple(
            read_layer(weights, f"encoder.layer.{index}", epsilon)
            for index in range(config.num_hidden_layers)
        ),
        heads=config.num_attention_heads,
        activation=ACTIVATIONS[config.hidden_act],
        relative_bias=None,
    )
