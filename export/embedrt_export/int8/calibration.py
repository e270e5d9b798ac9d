"""Calibration texts and the activation ranges measured on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from embedrt.bundle.graph_rules import INPUT
from embedrt.errors import QuantizationError, SourceError
from embedrt.files import expand
from embedrt.text.tokenizer import TokenIds
from embedrt.text.utf8 import read_lines
from embedrt_export.encoder import FloatArray
from embedrt_export.int8.conditions import require_finite

SHIPPED = Path(__file__).with_name("calibration.txt")  # written for this project
FEWEST = 30
HELD_BACK_EVERY = 3
LINES_IN_A_LONG_TEXT = 12


@dataclass(frozen=True, slots=True)
class CalibrationTexts:
    """Two disjoint sets of texts."""

    fitted: list[str]
    """Texts for measuring activation ranges."""
    held_back: list[str]
    """Texts for measuring the quality of the result."""


def read_calibration(file: Path | None) -> CalibrationTexts:
    """Read texts, one per line, from `file` or from the file that ships with the exporter.

    Every third text is held out. Each set also contains long texts, made by joining lines.
    """
    path = expand(file or SHIPPED)
    try:
        with path.open("rb") as texts:
            name = f"--calibration {path}"
            lines = [line for line in read_lines(texts, name) if line.strip()]
    except OSError as error:
        raise SourceError(f"--calibration {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SourceError(str(error)) from error
    if len(lines) < FEWEST:
        raise SourceError(
            f"--calibration {path} has {len(lines)} texts; at least {FEWEST} are needed, one a "
            "line, as varied as those that will be embedded"
        )
    held_back = lines[::HELD_BACK_EVERY]
    fitted = [line for index, line in enumerate(lines) if index % HELD_BACK_EVERY]
    return CalibrationTexts(_with_long(fitted), _with_long(held_back))


@dataclass(frozen=True, slots=True)
class Range:
    """Range of a linear layer's input activation, by channel, over all calibration tokens."""

    lowest: FloatArray
    """Shape: (inputs,)."""
    highest: FloatArray
    """Shape: (inputs,)."""

    @property
    def largest(self) -> FloatArray:
        """The largest magnitude. Shape: (inputs,)."""
        return np.maximum(-self.lowest, self.highest)

    def without(self, channels: NDArray[np.int64]) -> Range:
        """Return the range with these channels set to zero."""
        kept = np.ones(len(self.lowest), np.float32)
        kept[channels] = 0
        return self.scaled(kept)

    def scaled(self, factor: FloatArray) -> Range:
        """Return the range after scaling each channel by a positive factor."""
        return Range(self.lowest * factor, self.highest * factor)


def measure_ranges(
    model: onnx.ModelProto, inputs: Mapping[str, str], ids: Sequence[TokenIds]
) -> dict[str, Range]:
    """Run the model on the texts; return the range of each linear layer's input activation.

    Raises QuantizationError if there is no layer or no token, or if an activation is not finite.
    """
    if not inputs:
        raise QuantizationError("calibration: the encoder has no linear layer")
    if not any(len(row) for row in ids):
        raise QuantizationError("calibration: no text has a token")
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
    ranges: dict[str, Range] = {}
    for row in filter(len, ids):
        for name, values in zip(names, session.run(names, {INPUT: row[None]}), strict=True):
            lowest, highest = values.min(axis=0), values.max(axis=0)
            if name in ranges:
                lowest = np.minimum(lowest, ranges[name].lowest)
                highest = np.maximum(highest, ranges[name].highest)
            ranges[name] = Range(lowest, highest)
    for layer, name in inputs.items():
        require_finite(f"calibration: what {layer} reads", ranges[name].largest)
    return {layer: ranges[name] for layer, name in inputs.items()}


def _with_long(lines: list[str]) -> list[str]:
    step = LINES_IN_A_LONG_TEXT
    long = [" ".join(lines[start : start + step]) for start in range(0, len(lines), step)]
    return [*lines, *long]
