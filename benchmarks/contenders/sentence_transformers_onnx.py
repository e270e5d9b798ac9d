"""sentence-transformers with backend="onnx": as exported, optimized (O3), quantized (qint8)."""

from __future__ import annotations

import onnxruntime as ort
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.contenders import Encode, Setup

ENVIRONMENT = "sentence-transformers-onnx"
CONTENDERS = {
    "sentence-transformers onnx": "sentence-transformers-onnx",
    "sentence-transformers onnx O3": "sentence-transformers-onnx-o3",
    "sentence-transformers onnx qint8": "sentence-transformers-onnx-qint8",
}
TEXTS_PER_BATCH = 8  # as in torch


def load(setup: Setup) -> Encode:
    """Load the only graph of the artifact, in the same way for both purposes."""
    torch.set_num_threads(setup.threads)
    options = ort.SessionOptions()
    options.intra_op_num_threads = setup.threads
    (graph,) = (setup.artifact / "onnx").glob("*.onnx")
    encoder = SentenceTransformer(
        str(setup.artifact),
        backend="onnx",
        device="cpu",
        model_kwargs={
            "provider": "CPUExecutionProvider",
            "session_options": options,
            "file_name": f"onnx/{graph.name}",
        },
    )
    encoder.max_seq_length = setup.max_tokens
    return lambda texts: encoder.encode(texts, batch_size=TEXTS_PER_BATCH, show_progress_bar=False)
