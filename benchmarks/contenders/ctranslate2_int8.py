"""CTranslate2's encoder in int8, with pooling in numpy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Encode, Setup
from benchmarks.padding import PaddedBatch, encode_padded, mean_pool, open_tokenizer

ENVIRONMENT = "ctranslate2"
CONTENDERS = {"ctranslate2 int8": "ctranslate2-int8"}


def load(setup: Setup) -> Encode:
    """Load with all cores for one run at a time, or one core for each of several parallel runs."""
    tokenizer = open_tokenizer(setup.artifact, setup.max_tokens)
    runs, cores_per_run = (1, setup.threads) if setup.purpose == "latency" else (setup.threads, 1)
    encoder = ctranslate2.Encoder(
        str(setup.artifact), device="cpu", inter_threads=runs, intra_threads=cores_per_run
    )
    workers = ThreadPoolExecutor(runs)

    def run(batch: PaddedBatch) -> NDArray[np.float32]:
        output = encoder.forward_batch(
            ctranslate2.StorageView.from_array(batch.input_ids.astype(np.int32)),
            ctranslate2.StorageView.from_array(batch.attention_mask.sum(axis=1, dtype=np.int32)),
        )
        return mean_pool(np.array(output.last_hidden_state), batch.attention_mask)

    return lambda texts: encode_padded(tokenizer, texts, run, workers)
