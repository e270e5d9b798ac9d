"""RoBERTa, XLM-R and CamemBERT: BERT whose positions count from the padding id."""

from __future__ import annotations

from transformers import PretrainedConfig

from embedrt_export.encoder import Encoder
from embedrt_export.families.bert import read_encoder
from embedrt_export.source.checkpoint import Tensors


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a RoBERTa checkpoint.

    A text may hold the padding token by name; such a token takes the padding's position and does
    not count for those that follow (``create_position_ids_from_input_ids`` in transformers).
    """
    weights = tensors.under("roberta.", "model.")
    return read_encoder(config, weights, padding_id=config.pad_token_id)
