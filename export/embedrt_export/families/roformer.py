"""RoFormer: BERT with rotary positions, whose pairs are neighboring components."""

from __future__ import annotations

import numpy as np
from transformers import PretrainedConfig

from embedrt_export.encoder import Encoder, FloatArray, Rotation
from embedrt_export.families.bert import read_encoder
from embedrt_export.source.checkpoint import Tensors


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a RoFormer checkpoint."""
    weights = tensors.under("roformer.")
    narrow = config.embedding_size != config.hidden_size
    sines, cosines = _sinusoids(config, weights)
    return read_encoder(
        config,
        weights,
        projection="embeddings_project" if narrow else None,
        rotation=Rotation(cosines=cosines, sines=sines, interleaved=True),
    )


def _sinusoids(config: PretrainedConfig, weights: Tensors) -> tuple[FloatArray, FloatArray]:
    """Return the sines and cosines: the checkpoint's if it has them, as transformers does."""
    pairs = config.hidden_size // config.num_attention_heads // 2
    stored = "encoder.embed_positions"
    if weights.has(f"{stored}.weight"):
        table = weights.table(stored)
        return table[:, :pairs], table[:, pairs:]
    frequencies = 10000.0 ** (-np.arange(pairs) / pairs)
    angles = np.outer(np.arange(config.max_position_embeddings), frequencies)
    return np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)
