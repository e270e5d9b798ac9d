"""ONNX Runtime's own dynamic int8 of optimum's export: what one gets without embedrt's graph."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.contenders import Encode, Model, Purpose
from benchmarks.padding import open_tokenizer, padded_batches

ENVIRONMENT = "onnxruntime"
CONTENDERS = {"onnxruntime dynamic int8": "onnx-dynamic-int8"}


def load(name: str, model: Model, purpose: Purpose, threads: int) -> Encode:
    """Load the graph with every optimization; one load serves every purpose."""
    del name, purpose
    tokenizer = open_tokenizer(model.artifact, model.max_tokens)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        model.artifact / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    inputs = [value.name for value in session.get_inputs()]
    dimension = session.get_outputs()[0].shape[-1]

    def encode(texts: list[str]) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), dimension), np.float32)
        for batch in padded_batches(tokenizer, texts):
            values = {
                "input_ids": batch.input_ids,
                "attention_mask": batch.attention_mask,
                "token_type_ids": np.zeros_like(batch.input_ids),
            }
            feed = {name: values[name] for name in inputs}
            (vectors[batch.positions],) = session.run(["sentence_embedding"], feed)
        return vectors

    return encode
