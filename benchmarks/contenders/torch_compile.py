"""torch.compile in bf16: the fastest configuration of torch on this machine.

Inductor with freezing and max-autotune compiles code for one shape at a time, so texts are padded
to a few lengths and batches to one size. Each shape is compiled at its first use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch._inductor import config as inductor
from transformers import AutoModel

from benchmarks.contenders import Encode, Setup
from benchmarks.padding import PaddedBatch, encode_padded, mean_pool, open_tokenizer

ENVIRONMENT = "sentence-transformers"
CONTENDERS = {"torch.compile bf16": "source"}
COMPILES = True

LENGTHS = (16, 32, 64, 128, 256, 384, 512)
TEXTS_PER_BATCH = 8


def load(setup: Setup) -> Encode:
    """Load the encoder without compiling it."""
    torch.set_num_threads(setup.threads)
    inductor.freezing = True
    torch._dynamo.config.cache_size_limit = 2 * len(LENGTHS)  # noqa: SLF001 - as documented
    tokenizer = open_tokenizer(setup.artifact, setup.max_tokens)
    auto: Any = AutoModel
    encoder = auto.from_pretrained(setup.artifact, dtype=torch.bfloat16)
    encoder.eval()
    compiled: Any = torch.compile(encoder, mode="max-autotune", dynamic=False)
    rows = 1 if setup.purpose == "latency" else TEXTS_PER_BATCH

    @torch.inference_mode()
    def run(batch: PaddedBatch) -> NDArray[np.float32]:
        texts, longest = batch.input_ids.shape
        tokens = next(length for length in LENGTHS if length >= longest)
        input_ids, attention_mask = np.zeros((2, rows, tokens), np.int64)
        input_ids[:texts, :longest] = batch.input_ids
        attention_mask[:texts, :longest] = batch.attention_mask
        attention_mask[:, 0] = 1  # also in rows without a text, whose softmax would be NaN
        output = compiled(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        return mean_pool(output.last_hidden_state.float().numpy(), attention_mask)[:texts]

    return lambda texts: encode_padded(tokenizer, texts, run, texts_per_batch=rows)
