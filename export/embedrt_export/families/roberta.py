"""RoBERTa, XLM-R and CamemBERT: BERT with positions that start after the padding id."""

from __future__ import annotations

from transformers import PretrainedConfig

from embedrt_export.encoder import Encoder
from embedrt_export.families.bert import read_encoder
from embedrt_export.source.checkpoint import Tensors


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a RoBERTa checkpoint.

    A text can contain the padding token literally. Such a token has the padding position and does
    not advance the positions after it (``create_position_ids_from_input_ids`` in transformers).
    """
    weights = tensors.under("roberta.", "model.")
    return read_encoder(config, weights, padding_id=config.pad_token_id)
