"""fastembed with a model from a local folder."""

from __future__ import annotations

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

from benchmarks.contenders import Encode, Setup

ENVIRONMENT = "fastembed"
CONTENDERS = {"fastembed": "fastembed"}
NAME = "benchmarks/local"  # one of fastembed's own names would select its own files


def load(setup: Setup) -> Encode:
    """Load in the same way for both purposes."""
    found = encoder(setup)
    # fastembed pads a batch to its longest text and does not sort: a batch of 1 is its fastest.
    return lambda texts: np.stack(list(found.embed(texts, batch_size=1))).astype(np.float32)


def encoder(setup: Setup) -> TextEmbedding:
    """Register the folder as a custom model and load it."""
    TextEmbedding.add_custom_model(
        model=NAME,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=NAME),
        dim=0,  # ignored
        model_file="model.onnx",
    )
    return TextEmbedding(NAME, specific_model_path=str(setup.artifact), threads=setup.threads)
