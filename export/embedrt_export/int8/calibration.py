"""Calibration texts and the activation ranges measured on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from embedrt.errors import QuantizationError, SourceError
from embedrt.files import expand
from embedrt.text.tokenizer import TokenIds
from embedrt.text.utf8 import read_lines
from embedrt_export.encoder import Encoder, FloatArray, Lazy
from embedrt_export.graph.nodes import Nodes
from embedrt_export.graph.weights import read_graph
from embedrt_export.int8.conditions import require_finite

SHIPPED = Path(__file__).with_name("calibration.txt")  # written for this project
FEWEST = 30
ERRORS = 3  # ONNX Runtime's log level
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


DOCUMENTS = 20  # of a query


def pairs_of(texts: Sequence[str], *, queries: int = 12) -> list[tuple[str, str]]:
    """Return `queries` of the texts, evenly spread, each with `DOCUMENTS` others.

    The pairs of a query follow each other.
    """
    every = max(1, len(texts) // queries)
    return [
        (query, texts[(start + step) % len(texts)])
        for start, query in list(enumerate(texts))[::every][:queries]
        for step in range(1, min(DOCUMENTS, len(texts) - 1) + 1)
    ]


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

    def joined(self, other: Range) -> Range:
        """Return the range of the values of both."""
        lowest = np.minimum(self.lowest, other.lowest)
        return Range(lowest, np.maximum(self.highest, other.highest))

    def scaled(self, factor: FloatArray) -> Range:
        """Return the range after scaling each channel by a positive factor."""
        return Range(self.lowest * factor, self.highest * factor)


def measure_ranges(
    graph: Path, inputs: Mapping[str, str], ids: Sequence[TokenIds]
) -> dict[str, Range]:
    """Run the graph on the texts; return the range of each linear layer's input activation.

    Raises QuantizationError if there is no layer or no token, or if an activation is not finite.
    """
    if not inputs:
        raise QuantizationError("calibration: the encoder has no linear layer")
    if not any(row.size for row in ids):
        raise QuantizationError("calibration: no text has a token")
    names = sorted(set(inputs.values()))
    session = _watch(graph, names)
    lowest: dict[str, FloatArray] = {}
    highest: dict[str, FloatArray] = {}
    inputs_of_graph = [value.name for value in session.get_inputs()]
    for row in ids:
        if not row.size:
            continue
        rows = zip(inputs_of_graph, np.atleast_2d(row), strict=True)
        found = iter(session.run(None, {name: values[None] for name, values in rows})[1:])
        for name in names:
            low, high, finite = next(found), next(found), next(found)
            low, high = np.where(finite == 0, low, np.nan), np.where(finite == 0, high, np.nan)
            lowest[name] = np.minimum(low, lowest.get(name, low))
            highest[name] = np.maximum(high, highest.get(name, high))
    ranges = {name: Range(lowest[name], highest[name]) for name in names}
    for layer, name in inputs.items():
        require_finite(f"calibration: what {layer} reads", ranges[name].largest)
    return {layer: ranges[name] for layer, name in inputs.items()}


def join_ranges(encoder: Encoder, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Give layers with the same weights the range of all of them, so that int8 shares these too."""
    if isinstance(encoder.layers, Lazy):
        return dict(ranges)  # which reads each layer from weights of its own
    first = {id(layer): index for index, layer in reversed(list(enumerate(encoder.layers)))}
    owners = {
        f"layer_{index}": f"layer_{first[id(layer)]}" for index, layer in enumerate(encoder.layers)
    }

    def owned(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        return f"{owners.get(layer, layer)}.{kind}"

    joined: dict[str, Range] = {}
    for name, found in ranges.items():
        owner = owned(name)
        joined[owner] = joined[owner].joined(found) if owner in joined else found
    return {name: joined[owned(name)] for name in ranges}


def _watch(graph: Path, names: Sequence[str]) -> ort.InferenceSession:
    """Load the graph with three more outputs for each value: minimum, maximum, and a check.

    All are per channel, computed in the graph, because the values themselves take a gigabyte for a
    long text. The check is 0, or NaN if a value is not finite, which a minimum may hide.
    """
    watched = read_graph(graph)
    nodes = Nodes(prefix="watched/")
    axis = nodes.ints(0)
    for name in names:
        zeros = nodes.add("Mul", name, nodes.scalar(0.0))
        watched.graph.output.extend(
            helper.make_tensor_value_info(value, TensorProto.FLOAT, None)
            for value in (
                nodes.add("ReduceMin", name, axis, keepdims=0),
                nodes.add("ReduceMax", name, axis, keepdims=0),
                nodes.add("ReduceSum", zeros, axis, keepdims=0),
            )
        )
    watched.graph.node.extend(nodes.nodes)
    watched.graph.initializer.extend(nodes.initializers.values())
    file = graph.with_name("watched.onnx")  # beside the weights that it refers to
    file.write_bytes(watched.SerializeToString())
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS  # a sparse encoder has weights that no node reads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _with_long(lines: list[str]) -> list[str]:
    step = LINES_IN_A_LONG_TEXT
    long = [" ".join(lines[start : start + step]) for start in range(0, len(lines), step)]
    return [*lines, *long]
