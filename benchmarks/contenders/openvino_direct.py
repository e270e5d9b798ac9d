"""OpenVINO through its own API, the fastest way to use it.

The hint LATENCY is for one text at a time; THROUGHPUT is for many, with as many simultaneous
requests as OpenVINO recommends.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from benchmarks.contenders import Encode, Setup
from benchmarks.padding import PaddedBatch, encode_padded, open_tokenizer

ENVIRONMENT = "openvino"
CONTENDERS = {
    "openvino f32": "openvino",
    "openvino bf16": "openvino",
    "openvino int8 (nncf)": "openvino-int8",
}

# With int8, this applies to the layers that NNCF leaves in floating point; bf16 is faster there.
PRECISIONS = {"openvino f32": "f32", "openvino bf16": "bf16", "openvino int8 (nncf)": "bf16"}


def load(setup: Setup) -> Encode:
    """Compile the graph for the purpose."""
    tokenizer = open_tokenizer(setup.artifact, setup.max_tokens)
    compiled: Any = ov.Core().compile_model(
        setup.artifact / "model.xml",
        "CPU",
        {
            "PERFORMANCE_HINT": setup.purpose.upper(),
            "INFERENCE_NUM_THREADS": setup.threads,
            "INFERENCE_PRECISION_HINT": PRECISIONS[setup.name],
        },
    )
    inputs = [port.any_name for port in compiled.inputs]
    requests: SimpleQueue[Any] = SimpleQueue()
    for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
        requests.put(compiled.create_infer_request())
    workers = ThreadPoolExecutor(requests.qsize())

    def run(batch: PaddedBatch) -> NDArray[np.float32]:
        request = requests.get()
        try:
            request.infer(batch.inputs(inputs), share_inputs=True)
            vectors: NDArray[np.float32] = request.get_output_tensor(0).data.copy()
            return vectors
        finally:
            requests.put(request)

    return lambda texts: encode_padded(tokenizer, texts, run, workers)
