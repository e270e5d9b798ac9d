"""OpenVINO's graph, in floating point and with NNCF's post-training int8."""

from __future__ import annotations

import shutil
from pathlib import Path

import nncf
import numpy as np
import openvino as ov

from benchmarks.padding import open_tokenizer
from benchmarks.texts import CALIBRATION

ENVIRONMENT = "openvino"
ARTIFACTS = ("openvino", "openvino-int8")
NEEDS = "onnx"
CALIBRATION_TOKENS = 128


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Convert optimum's export; for int8, calibrate on the texts that embedrt's exporter uses."""
    del model
    graph = ov.convert_model(needed / "model.onnx")
    embedding = graph.output("sentence_embedding")
    parameters = graph.get_parameters()
    graph = ov.Model([embedding], parameters, "encoder")
    if artifact == "openvino-int8":
        inputs = [port.any_name for port in graph.inputs]
        tokenizer = open_tokenizer(needed, CALIBRATION_TOKENS)

        def feed(text: str) -> dict[str, np.ndarray]:
            ids = np.array([tokenizer.encode(text).ids])
            values = {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "token_type_ids": np.zeros_like(ids),
            }
            return {name: values[name] for name in inputs}

        texts = CALIBRATION.read_text(encoding="utf-8").splitlines()
        graph = nncf.quantize(
            graph,
            nncf.Dataset(texts, feed),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(texts),
        )
    ov.save_model(graph, output / "model.xml", compress_to_fp16=False)
    shutil.copy(needed / "tokenizer.json", output)
