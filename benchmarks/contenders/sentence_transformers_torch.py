"""sentence-transformers in torch, in fp32 and bf16, with its own sorting by length."""

from __future__ import annotations

import torch
from sentence_transformers import SentenceTransformer

from benchmarks.contenders import Encode, Setup

ENVIRONMENT = "sentence-transformers"
CONTENDERS = {"sentence-transformers fp32": "source", "sentence-transformers bf16": "source"}

TEXTS_PER_BATCH = 8  # faster than the default of 32

DTYPES = {
    "sentence-transformers fp32": torch.float32,
    "sentence-transformers bf16": torch.bfloat16,
}


def load(setup: Setup) -> Encode:
    """Load the model in the dtype of its name, in the same way for both purposes."""
    torch.set_num_threads(setup.threads)
    encoder = SentenceTransformer(
        str(setup.artifact), device="cpu", model_kwargs={"dtype": DTYPES[setup.name]}
    )
    encoder.max_seq_length = setup.max_tokens
    return lambda texts: encoder.encode(texts, batch_size=TEXTS_PER_BATCH, show_progress_bar=False)
