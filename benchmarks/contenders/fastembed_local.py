"""fastembed on a copy of the model on this machine."""

from __future__ import annotations

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

from benchmarks.contenders import Encode, Model, Purpose

ENVIRONMENT = "fastembed"
CONTENDERS = {"fastembed": "fastembed"}
NAME = "benchmarks/local"  # none that fastembed knows, for those have files of their own


def load(name: str, model: Model, purpose: Purpose, threads: int) -> Encode:
    """Register the folder as a model of one's own; one load serves every purpose."""
    del name, purpose
    TextEmbedding.add_custom_model(
        model=NAME,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=NAME),
        dim=0,  # not looked at
        model_file="model.onnx",
    )
    encoder = TextEmbedding(NAME, specific_model_path=str(model.artifact), threads=threads)
    # It pads a batch to its longest text and does not sort: one by one was its fastest.
    return lambda texts: np.stack(list(encoder.embed(texts, batch_size=1))).astype(np.float32)
