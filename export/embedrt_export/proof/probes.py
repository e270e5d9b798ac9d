"""Texts with reference results, for verifying a bundle on machines without torch."""

from __future__ import annotations

import json

from embedrt_export.proof.pair_oracle import PairOracle
from embedrt_export.proof.pairs import QUERY
from embedrt_export.proof.reference import Reference
from embedrt_export.proof.sparse_oracle import DOCUMENTS, SparseOracle
from embedrt_export.proof.texts import SAMPLES

PROBE_TEXTS = tuple(text for text in SAMPLES if "London" in text)


def probes(oracle: Reference) -> bytes:
    """Return the content of ``probes.json`` for embeddings: each text with its vector."""
    vectors = oracle.embed(PROBE_TEXTS)
    content = [
        {"text": text, "embedding": [float(f"{value:.9g}") for value in vector]}
        for text, vector in zip(PROBE_TEXTS, vectors, strict=True)
    ]
    return json.dumps(content).encode()


def sparse_probes(oracle: SparseOracle) -> bytes:
    """Return the content of ``probes.json`` for a sparse encoder: each text with all weights."""
    rows = oracle.embed(PROBE_TEXTS, DOCUMENTS)
    content = [
        {"text": text, "weights": [float(f"{value:.9g}") if value else 0 for value in row]}
        for text, row in zip(PROBE_TEXTS, rows, strict=True)
    ]
    return json.dumps(content).encode()


def pair_probes(oracle: PairOracle) -> bytes:
    """Return the content of ``probes.json`` for a reranker: each pair with its raw scores."""
    pairs = [(QUERY, text) for text in (*PROBE_TEXTS, "", SAMPLES[8])]
    content = [
        {"pair": pair, "scores": [float(f"{value:.9g}") for value in scores]}
        for pair, scores in zip(pairs, oracle.score(pairs), strict=True)
    ]
    return json.dumps(content).encode()
