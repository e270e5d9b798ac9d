"""Selects the fastest int8 scheme that reaches the required quality for a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.bundle.manifest import Precision
from embedrt.bundle.quantization import Scheme
from embedrt.engine.session import Session
from embedrt.errors import QualityError, QuantizationError
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import FloatArray
from embedrt_export.int8.order import OrderQuality
from embedrt_export.int8.quality import Quality, measure_quality
from embedrt_export.int8.terms import TermQuality

Figures = Quality | OrderQuality | TermQuality
Measure = Callable[[FloatArray, FloatArray], Any]
"""Returns the figures of results in int8, given those in fp32. Shape of both: (n, dimension)."""

BuildScheme = Callable[[Scheme], Path]
"""Writes the graph of a scheme with its weights; returns the graph's path."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantized graph and the scheme that was chosen."""

    graph: Path
    scheme: Scheme
    quality: Figures
    rejected: tuple[str, ...]
    """The reasons against each faster scheme."""


def choose_scheme(
    schemes: Sequence[Scheme],
    build: BuildScheme,
    reference: Path,
    ids: Sequence[TokenIds],
    least: Figures,
    measure: Measure = measure_quality,
    *,
    by_token: bool = False,
) -> Quantized:
    """Try the schemes in order, fastest first; return the first that reaches the quality `least`.

    With `by_token`, the graphs give a row for each token of a text, and `measure` gets all of them.
    Quality is what `measure` finds on `ids`, the held-out texts. Raises QualityError with the
    figures of all schemes if none suffices, QuantizationError if there is no scheme or there are
    too few texts.
    """
    if not schemes:
        raise QuantizationError("int8: there is no scheme to try")
    expected = _embed(reference, ids, "fp32", by_token=by_token)
    rejected: list[str] = []
    for scheme in schemes:
        graph = build(scheme)
        quality = measure(_embed(graph, ids, "int8", by_token=by_token), expected)
        shortfalls = quality.shortfalls(least)
        if not shortfalls:
            return Quantized(graph, scheme, quality, tuple(rejected))
        rejected.append(f"{scheme}: {', '.join(shortfalls)}")
    raise QualityError(
        f"int8 does not keep this model's quality over {len(ids)} texts. {'; '.join(rejected)}. "
        "Export it in fp32, or give texts like yours with --calibration"
    )


def _embed(
    graph: Path, ids: Sequence[TokenIds], precision: Precision, *, by_token: bool
) -> FloatArray:
    """Embed with the runtime's session, one text at a time. Shape: (n, dimension)."""
    session = Session(graph, precision, by_token=by_token)
    found = [session.run(row[None]) for row in ids]
    return np.concatenate([rows[0] for rows in found] if by_token else found)
