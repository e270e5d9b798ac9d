"""Biases on attention scores by the distance of two tokens, which checkpoints hold by bucket."""

from __future__ import annotations

import torch
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from embedrt_export.encoder import FloatArray

MAX_DISTANCE = 128  # the default of transformers, which MPNet does not change


def bias_by_distance(
    by_bucket: FloatArray, furthest: int, *, max_distance: int = MAX_DISTANCE
) -> FloatArray:
    """Map the bias from buckets, (buckets, heads), to distances, (heads, 2 * furthest + 1).

    The buckets are T5's (Raffel et al. 2019, arXiv:1910.10683, section 2.1): one a distance at
    first, then ever wider ones up to `max_distance`.
    """
    distances = torch.arange(-furthest, furthest + 1)
    buckets = MPNetEncoder.relative_position_bucket(
        distances, num_buckets=len(by_bucket), max_distance=max_distance
    )
    by_distance: FloatArray = by_bucket[buckets.numpy()].T
    return by_distance
