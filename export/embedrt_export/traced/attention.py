"""Attention whose memory does not grow with the square of a text's length.

transformers lets a program register implementations of attention, for all architectures that do
not bring their own. The implementation here is traced as an operator of ONNX Runtime: full
attention as `MultiHeadAttention`, causal attention as `GroupQueryAttention`. Attention with another
mask, such as a window, is traced as torch's attention with that mask. A mask that an architecture
makes of its padding alone hides nothing, because no text is padded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.onnx import is_in_onnx_export
from transformers import AttentionInterface, AttentionMaskInterface

from embedrt_export.graph.causal import HEAD_MULTIPLE
from embedrt_export.graph.nodes import CONTRIB

BOUNDED = "embedrt"
UNKNOWN = ("softcap", "s_aux", "position_bias")  # arguments that the operators do not have


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attended values, of shape (batch, tokens, heads, channels), and no weights.

    `query` has the shape (batch, heads, tokens, channels); `key` and `value` may have fewer heads.
    Raises NotImplementedError for an argument that the operators do not have.
    """
    if unknown := [name for name in UNKNOWN if options.get(name) is not None]:
        raise NotImplementedError(f"attention with {', '.join(unknown)}")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is not None and is_in_onnx_export() and _is_of_padding(attention_mask):
        attention_mask, causal = None, False  # as torch's attention with any mask
    channels = query.shape[3]
    fits = query.shape[2] == key.shape[2] and channels == key.shape[3] == value.shape[3]
    fits = fits and not (causal and channels % HEAD_MULTIPLE)
    if attention_mask is not None or not fits or not is_in_onnx_export():
        attended, _ = AttentionInterface()["sdpa"](
            module, query, key, value, attention_mask, dropout, scaling, causal, **options
        )
        return attended, None
    scale = channels**-0.5 if scaling is None else scaling
    operator = _attend_to_past if causal else _attend_to_all
    return operator(query, key, value, float(scale)).view(query.transpose(1, 2).shape), None


def mask(
    *args: Any, mask_function: Any, local_size: int | None = None, **options: Any
) -> torch.Tensor | None:
    """Return the mask for `attend`; None if its operators imply it.

    The mask of padding is not used, because no text is padded.
    """
    skips = {
        "causal_mask_function": options.get("allow_is_causal_skip", True),
        "bidirectional_mask_function": options.get("allow_is_bidirectional_skip", False),
    }
    if local_size is None and skips.get(getattr(mask_function, "__name__", "")):
        return None
    unpadded = {**options, "attention_mask": None}
    values: torch.Tensor | None = AttentionMaskInterface()["sdpa"](
        *args, mask_function=mask_function, local_size=local_size, **unpadded
    )
    return values


def _is_of_padding(attention_mask: torch.Tensor) -> bool:
    """Whether a mask is the same for all heads and all tokens that attend."""
    return attention_mask.dim() == 4 and attention_mask.shape[1] == attention_mask.shape[2] == 1


def _attend_to_all(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> torch.Tensor:
    heads = query.shape[1]
    groups = heads // key.shape[1]
    rows = _rows(query)
    if groups > 1:
        key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
    return torch.onnx.ops.symbolic(
        f"{CONTRIB}::MultiHeadAttention",
        [rows, _rows(key), _rows(value)],
        {"num_heads": heads, "scale": scale},
        dtype=rows.dtype,
        shape=rows.shape,
        version=1,
    )


def _attend_to_past(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> torch.Tensor:
    batch, heads, tokens, _ = query.shape
    rows = _rows(query)
    last = torch.full((batch,), tokens - 1, dtype=torch.int32)
    total = torch.full((), tokens, dtype=torch.int32)
    attended, *_ = torch.onnx.ops.symbolic_multi_out(
        f"{CONTRIB}::GroupQueryAttention",
        [rows, _rows(key), _rows(value), None, None, last, total],
        {"num_heads": heads, "kv_num_heads": key.shape[1], "scale": scale},
        dtypes=[rows.dtype] * 3,
        shapes=[rows.shape, key.shape, value.shape],
        version=1,
    )
    return attended


def _rows(heads: torch.Tensor) -> torch.Tensor:
    """Reshape (batch, heads, tokens, channels) to (batch, tokens, heads * channels)."""
    return heads.transpose(1, 2).flatten(2)


AttentionInterface.register(BOUNDED, attend)
AttentionMaskInterface.register(BOUNDED, mask)
