"""ONNX Runtime's dynamic int8 quantization of optimum's export: the common way without embedrt."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.contenders import Encode, Setup
from benchmarks.padding import PaddedBatch, encode_padded, open_tokenizer

ENVIRONMENT = "onnxruntime"
CONTENDERS = {"onnxruntime dynamic int8": "onnx-dynamic-int8"}


def load(setup: Setup) -> Encode:
    """Load the graph with every optimization, in the same way for both purposes."""
    tokenizer = open_tokenizer(setup.artifact, setup.max_tokens)
    options = ort.SessionOptions()
    options.intra_op_num_threads = setup.threads
    session = ort.InferenceSession(
        setup.artifact / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    inputs = [value.name for value in session.get_inputs()]

    def run(batch: PaddedBatch) -> NDArray[np.float32]:
        vectors: NDArray[np.float32]
        (vectors,) = session.run(["sentence_embedding"], batch.inputs(inputs))
        return vectors

    return lambda texts: encode_padded(tokenizer, texts, run)
