"""Texts with the original model's vectors, to check a bundle on a machine without torch."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.embedder import Embedder
from embedrt.errors import BundleCorruptError
from embedrt.manifest import Precision

# How many tolerances a difference may be on other processors, which round otherwise. That of int8
# has room for it already.
SLACK: dict[Precision, float] = {"fp32": 10, "int8": 1}


def largest_difference(
    found: NDArray[np.float32], expected: NDArray[np.float32], *, normalized: bool
) -> float:
    """Return the largest difference of a component, as `Agreement.max_difference` defines it.

    Shape: (n, dimension) twice.
    """
    scale = 1.0 if normalized else np.abs(expected).max(axis=1, keepdims=True)
    return float(np.max(np.abs(found - expected) / scale))


def check_probes(embedder: Embedder, bundle: Bundle) -> float:
    """Return the largest difference of a component from the original's, as `Agreement` defines it.

    Raises BundleCorruptError if it is far beyond what was measured at export.
    """
    agreement = bundle.manifest.agreement
    if agreement is None:
        raise BundleCorruptError(f"{bundle.path} was never proven: export the model again")
    try:
        probes = json.loads(bundle.probes.read_bytes())
        texts = [probe["text"] for probe in probes]
        expected = np.array([probe["embedding"] for probe in probes], np.float32)
        found = embedder.encode(texts, prompt="")
    except (ValueError, TypeError, LookupError) as error:
        raise BundleCorruptError(
            f"{bundle.probes} holds no texts with their embeddings ({error!r}); "
            "copy or export the bundle again"
        ) from error
    difference = largest_difference(found, expected, normalized=bundle.manifest.normalized)
    allowed = SLACK[bundle.manifest.precision] * agreement.tolerance
    if not difference <= allowed:
        raise BundleCorruptError(
            f"{bundle.path} gives vectors that differ by {difference:.1e} from the original's on "
            f"this machine; at most {allowed:g} is expected. Please report "
            "your processor and the version of onnxruntime"
        )
    return difference
