"""Selects the fastest int8 scheme that reaches the required quality for a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from embedrt.bundle.manifest import Precision, Scheme
from embedrt.engine.session import Session
from embedrt.errors import QualityError, QuantizationError
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import FloatArray
from embedrt_export.int8.quality import Quality, measure_quality

BuildScheme = Callable[[Scheme], onnx.ModelProto]


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantized graph and the scheme that was chosen."""

    model: onnx.ModelProto
    scheme: Scheme
    quality: Quality
    rejected: tuple[str, ...]
    """The reasons against each faster scheme."""


def choose_scheme(
    schemes: Sequence[Scheme],
    build: BuildScheme,
    reference: onnx.ModelProto,
    ids: Sequence[TokenIds],
    least: Quality,
) -> Quantized:
    """Try the schemes in order, fastest first; return the first that reaches the quality `least`.

    Quality is measured on `ids`, the held-out texts. Raises QualityError with the figures of all
    schemes if none suffices, QuantizationError if there is no scheme or there are too few texts.
    """
    if not schemes:
        raise QuantizationError("int8: there is no scheme to try")
    expected = _embed(reference, ids, "fp32")
    rejected: list[str] = []
    for scheme in schemes:
        model = build(scheme)
        quality = measure_quality(_embed(model, ids, "int8"), expected)
        shortfalls = quality.shortfalls(least)
        if not shortfalls:
            return Quantized(model, scheme, quality, tuple(rejected))
        rejected.append(f"{scheme}: {', '.join(shortfalls)}")
    raise QualityError(
        f"int8 does not keep this model's quality over {len(ids)} texts. {'; '.join(rejected)}. "
        "Export it in fp32, or give texts like yours with --calibration"
    )


def _embed(model: onnx.ModelProto, ids: Sequence[TokenIds], precision: Precision) -> FloatArray:
    """Embed with the runtime's session, one text at a time. Shape: (n, dimension)."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        graph.write_bytes(model.SerializeToString())
        session = Session(graph, precision)
        return np.concatenate([session.run(row[None]) for row in ids])
