"""ONNX Runtime's dynamic int8 quantization of optimum's export: the standard way without embedrt.

The graph comes from `benchmarks.preparations.onnx_dynamic_int8`.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.contenders import Encode, Model, Purpose
from benchmarks.padding import PaddedBatch, encode_padded, open_tokenizer

ENVIRONMENT = "onnxruntime"
CONTENDERS = {"onnxruntime dynamic int8": "onnx-dynamic-int8"}


def load(name: str, model: Model, purpose: Purpose, threads: int) -> Encode:
    """Load the graph with every optimization, in the same way for both purposes."""
    del name, purpose
    tokenizer = open_tokenizer(model.artifact, model.max_tokens)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        model.artifact / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    inputs = [value.name for value in session.get_inputs()]

    def run(batch: PaddedBatch) -> NDArray[np.float32]:
        vectors: NDArray[np.float32]
        (vectors,) = session.run(["sentence_embedding"], batch.inputs(inputs))
        return vectors

    return lambda texts: encode_padded(tokenizer, texts, run)
