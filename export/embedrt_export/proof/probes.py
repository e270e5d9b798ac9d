"""Texts with reference results, for verifying a bundle on machines without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from embedrt.bundle.manifest import Task
from embedrt.pair import Text
from embedrt.verify import PROBES
from embedrt_export.encoder import FloatArray
from embedrt_export.proof.calls import DOCUMENTS
from embedrt_export.proof.late_oracle import LateOracle
from embedrt_export.proof.pair_oracle import PairOracle
from embedrt_export.proof.pairs import QUERY
from embedrt_export.proof.reference import Reference
from embedrt_export.proof.sparse_oracle import SparseOracle
from embedrt_export.proof.texts import SAMPLES
from embedrt_export.proof.token_vectors import TASKS

PROBE_TEXTS = tuple(text for text in SAMPLES if "London" in text)


def probes(oracle: Reference) -> bytes:
    """Return the content of ``probes.json`` for embeddings: each text with its vector."""
    return _content("embedding", PROBE_TEXTS, map(_rounded, oracle.embed(PROBE_TEXTS)))


def sparse_probes(oracle: SparseOracle) -> bytes:
    """Return the content of ``probes.json`` for a sparse encoder: each text with all weights."""
    rows = oracle.embed(PROBE_TEXTS, DOCUMENTS)
    short = ([value or 0 for value in _rounded(row)] for row in rows)  # most are 0, not 0.0
    return _content("sparse", PROBE_TEXTS, short)


def token_probes(oracle: LateOracle) -> bytes:
    """Return the content of ``probes.json`` for late interaction: queries and documents."""
    texts = [(TASKS[call.method], text) for call in oracle.main_calls for text in PROBE_TEXTS]
    found = [oracle.embed([text], call)[0] for call in oracle.main_calls for text in PROBE_TEXTS]
    return _content("late-interaction", texts, ([*map(_rounded, rows)] for rows in found))


def pair_probes(oracle: PairOracle) -> bytes:
    """Return the content of ``probes.json`` for a reranker: each pair with its raw scores."""
    pairs = [(QUERY, text) for text in (*PROBE_TEXTS, "", SAMPLES[8])]
    return _content("reranking", pairs, map(_rounded, oracle.score(pairs)))


def _rounded(values: FloatArray) -> list[float]:
    """Return numbers with nine digits, which distinguish any two float32."""
    return [float(f"{value:.9g}") for value in values]


def _content(task: Task, texts: Sequence[Text], results: Iterable[list[Any]]) -> bytes:
    kind = PROBES[task]
    pairs = zip(texts, results, strict=True)
    return json.dumps([{kind.text: text, kind.result: result} for text, result in pairs]).encode()
