"""A model's encoder in torch, in float32 and with no code but transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel

from embedrt.errors import UnsupportedModelError
from embedrt_export.quiet import quiet

# Explicit, for a model's own files may name kernels that transformers would fetch and run, and from
# its version 5 on transformers computes in the dtype of the weights.
MODEL_OPTIONS: dict[str, Any] = {
    "attn_implementation": "eager",
    "use_kernels": False,
    "dtype": torch.float32,
}


def load_encoder(folder: Path) -> PreTrainedModel:
    """Load the encoder in `folder` for inference.

    Raises UnsupportedModelError where transformers does not load it or leaves a weight random.
    """
    try:
        with quiet():
            encoder, info = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **MODEL_OPTIONS,
            )
    except Exception as error:  # whatever the files make it raise
        raise UnsupportedModelError(f"transformers does not load {folder}: {error}") from error
    wrong = {name for name in info["missing_keys"] if "pooler" not in name}
    wrong |= {str(key) for key in info["mismatched_keys"]}
    if wrong:
        raise UnsupportedModelError(f"the weights in {folder} lack {', '.join(sorted(wrong)[:5])}")
    loaded: PreTrainedModel = encoder.eval()
    return loaded
