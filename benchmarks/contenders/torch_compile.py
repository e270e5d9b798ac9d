"""torch.compile in bf16: the fastest that torch gets on this machine.

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

from benchmarks.contenders import Encode, Model, Purpose
from benchmarks.padding import mean_pool, open_tokenizer

ENVIRONMENT = "sentence-transformers"
CONTENDERS = {"torch.compile bf16": "source"}
COMPILES = True

LENGTHS = (16, 32, 64, 128, 256, 384, 512)
TEXTS_PER_BATCH = 8


def load(name: str, model: Model, purpose: Purpose, threads: int) -> Encode:
    """Load the encoder without compiling it."""
    del name
    torch.set_num_threads(threads)
    inductor.freezing = True
    torch._dynamo.config.cache_size_limit = 2 * len(LENGTHS)  # noqa: SLF001 - as documented
    tokenizer = open_tokenizer(model.artifact, model.max_tokens)
    auto: Any = AutoModel
    encoder = auto.from_pretrained(model.artifact, dtype=torch.bfloat16)
    encoder.eval()
    compiled: Any = torch.compile(encoder, mode="max-autotune", dynamic=False)
    rows = 1 if purpose == "latency" else TEXTS_PER_BATCH

    def run(ids: list[list[int]]) -> NDArray[np.float32]:
        tokens = next(length for length in LENGTHS if length >= len(ids[0]))
        input_ids, attention_mask = np.zeros((2, rows, tokens), np.int64)
        attention_mask[:, 0] = 1  # also in rows without a text, whose softmax would be NaN
        for row, one in enumerate(ids):
            input_ids[row, : len(one)] = one
            attention_mask[row, : len(one)] = 1
        output = compiled(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        return mean_pool(output.last_hidden_state.float().numpy(), attention_mask)[: len(ids)]

    def encode(texts: list[str]) -> NDArray[np.float32]:
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(ids)), key=lambda position: -len(ids[position]))
        vectors = np.empty((len(texts), encoder.config.hidden_size), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), rows):
                batch = order[start : start + rows]
                vectors[batch] = run([ids[position] for position in batch])
        return vectors

    return encode
