"""The Fourier transform of FNet as products with matrices of cosines and sines.

FNet (Lee-Thorp et al. 2021, arXiv:2105.03824) mixes tokens by the real part of a Fourier transform
over tokens and channels. Bundles may not contain ONNX's operator for it, DFT.
"""

from __future__ import annotations

import math

import torch
from torch import nn

TRANSFORM = "fourier_transform"


def replace_transforms(encoder: nn.Module) -> None:
    """Make every Fourier transform of `encoder` the equivalent `mix_tokens`."""
    for module in encoder.modules():
        if hasattr(module, TRANSFORM):
            setattr(module, TRANSFORM, mix_tokens)


def mix_tokens(rows: torch.Tensor) -> torch.Tensor:
    """Return the real part of the transform over the last two axes. Shape: (batch, tokens, n)."""
    cos_rows, sin_rows = _waves(rows.shape[-1])
    cos_tokens, sin_tokens = _waves(rows.shape[-2])
    return cos_tokens @ (rows @ cos_rows) - sin_tokens @ (rows @ sin_rows)


def _waves(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cosine and sine of 2 pi i j / count. Shape of each: (count, count)."""
    index = torch.arange(count)
    # In integers, so that no angle is rounded; by a tensor, which the exporter can divide by.
    turns = (index[:, None] * index) % torch.full((), count)
    angles = turns.to(torch.float32) * (2 * math.pi / count)
    return torch.cos(angles), torch.sin(angles)
