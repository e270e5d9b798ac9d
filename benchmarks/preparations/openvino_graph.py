"""OpenVINO's graph, in floating point and in int8 with NNCF's post-training quantization."""

from __future__ import annotations

import shutil
from pathlib import Path

import nncf
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from benchmarks.checkout import CALIBRATION
from benchmarks.padding import open_tokenizer, padded_batches

ENVIRONMENT = "openvino"
ARTIFACTS = {"openvino": "onnx", "openvino-int8": "onnx"}
CALIBRATION_TOKENS = 128


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Convert optimum's export; int8 is calibrated on the texts of embedrt's exporter."""
    del model
    graph = ov.convert_model(needed / "model.onnx")
    embedding = graph.output("sentence_embedding")
    parameters = graph.get_parameters()
    graph = ov.Model([embedding], parameters, "encoder")
    if artifact == "openvino-int8":
        inputs = [port.any_name for port in graph.inputs]
        tokenizer = open_tokenizer(needed, CALIBRATION_TOKENS)

        def feed(text: str) -> dict[str, NDArray[np.int64]]:
            (batch,) = padded_batches(tokenizer, [text])
            return batch.inputs(inputs)

        texts = CALIBRATION.read_text(encoding="utf-8").splitlines()
        graph = nncf.quantize(
            graph,
            nncf.Dataset(texts, feed),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(texts),
        )
    ov.save_model(graph, output / "model.xml", compress_to_fp16=False)
    shutil.copy(needed / "tokenizer.json", output)
