"""Texts with reference vectors, for verifying a bundle on machines without torch."""

from __future__ import annotations

import json

from embedrt_export.proof.original import Original
from embedrt_export.proof.texts import SAMPLES

PROBE_TEXTS = tuple(text for text in SAMPLES if "London" in text)


def probes(oracle: Original) -> bytes:
    """Return the content of ``probes.json``."""
    vectors = oracle.embed(PROBE_TEXTS)
    content = [
        {"text": text, "embedding": [float(f"{value:.9g}") for value in vector]}
        for text, vector in zip(PROBE_TEXTS, vectors, strict=True)
    ]
    return json.dumps(content).encode()
