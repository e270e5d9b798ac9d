"""Builds bundles of sparse encoders of a few kilobytes without the onnx package.

The vocabulary of the tokenizer is ``w0`` to ``w9``. The weight of word 7 i is the number of
occurrences of ``wi`` in a document, and in a query `QUERY_WEIGHTS` of i where it occurs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.bundle.manifest import INPUTS, OUTPUTS, QueryWeights, Sparsity
from tiny_bundle import (
    FLOAT,
    INT64,
    WORDS,
    keepdims,
    make_tiny,
    message,
    node,
    tensor,
    value,
)

DIMENSION = 7 * WORDS
QUERY_WEIGHTS = np.zeros(DIMENSION, np.float32)
QUERY_WEIGHTS[:WORDS] = [0, 1, 2, 0.5, 2, -1, 3, 3, 3, 0]


def sparse_graph() -> bytes:
    """Encode a graph that sums the rows of a table, beside the weights of queries."""
    table = np.zeros((WORDS, DIMENSION), np.float32)
    table[np.arange(WORDS), 7 * np.arange(WORDS)] = 1
    outline = message(
        (1, node("Gather", ["table", "input_ids"], "rows")),
        (1, node("ReduceSum", ["rows", "axes"], "weights", (5, keepdims(0)))),
        (5, tensor("table", table)),
        (5, tensor("query_weights", QUERY_WEIGHTS)),
        (5, tensor("axes", np.array([1]))),
        (2, "tiny"),
        (11, value("input_ids", INT64, "batch", "sequence")),
        (12, value("weights", FLOAT, "batch", DIMENSION)),
    )
    return message((8, message((1, ""), (2, 17))), (1, 8), (7, outline))


def make_tiny_sparse(
    folder: Path,
    *,
    graph: bytes | None = None,
    max_active_dims: int | None = None,
    queries: QueryWeights | None = None,
    **changes: Any,
) -> Path:
    """Write a tiny bundle; arguments replace its graph and fields of its manifest."""
    expected = [0.0] * DIMENSION
    expected[7] = expected[14] = 1.0
    facts: dict[str, Any] = {
        "graph": sparse_graph() if graph is None else graph,
        "probes": json.dumps([{"text": "w1 w2", "weights": expected}]),
        "task": "sparse",
        "inputs": INPUTS["sparse"],
        "outputs": OUTPUTS["sparse"],
        "dimension": DIMENSION,
        "pooling": (),
        "sparse": Sparsity(
            pooling="sum",
            activation="relu",
            max_active_dims=max_active_dims,
            queries=queries,
        ),
    }
    return make_tiny(folder, **{**facts, **changes})
