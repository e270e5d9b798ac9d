"""The texts that a quantization is made with and judged by, and what they make of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from embedrt.errors import SourceError
from embedrt.graph import INPUT
from embedrt.tokenizer import TokenIds
from embedrt_export.encoder import FloatArray

SHIPPED = Path(__file__).with_name("calibration.txt")  # written for this purpose
FEWEST = 30
HELD_BACK_EVERY = 3
LINES_IN_A_LONG_TEXT = 12


@dataclass(frozen=True, slots=True)
class CalibrationTexts:
    """Texts in two parts that share none."""

    fitted: list[str]
    """What ranges are measured on."""
    held_back: list[str]
    """What the result is judged by."""


def read_calibration(file: Path | None) -> CalibrationTexts:
    """Read texts, one a line, from `file` or those that come with the exporter.

    Every third is held back. Of each part, runs of lines are joined to long texts as well.
    """
    path = file or SHIPPED
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"--calibration {path} cannot be read as UTF-8 text: {error}") from error
    if len(lines) < FEWEST:
        raise SourceError(
            f"--calibration {path} has {len(lines)} texts; at least {FEWEST} are needed, one a "
            "line, as varied as those that will be embedded"
        )
    held_back = lines[::HELD_BACK_EVERY]
    fitted = [line for index, line in enumerate(lines) if index % HELD_BACK_EVERY]
    return CalibrationTexts(_with_long(fitted), _with_long(held_back))


def measure_ranges(
    model: onnx.ModelProto, inputs: Mapping[str, str], ids: Sequence[TokenIds]
) -> dict[str, FloatArray]:
    """Return each layer's largest magnitude of each channel of its input. Shape: (inputs,)."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = sorted(set(inputs.values()))
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    largest: dict[str, FloatArray] = {}
    for row in ids:
        values = session.run(names, {INPUT: row[None]})
        for name, value in zip(names, values, strict=True):
            channels = np.abs(value).max(axis=0)
            largest[name] = np.maximum(largest.get(name, channels), channels)
    return {layer: largest[name] for layer, name in inputs.items()}


def _with_long(lines: list[str]) -> list[str]:
    step = LINES_IN_A_LONG_TEXT
    long = [" ".join(lines[start : start + step]) for start in range(0, len(lines), step)]
    return [*lines, *long]
