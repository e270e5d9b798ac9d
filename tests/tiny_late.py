"""Builds bundles of late interaction models of a few kilobytes without the onnx package.

The vector of word i is row i of the identity matrix, or zeros where the attention mask hides it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.bundle.late_interaction import Expansion, LateInteraction
from embedrt.bundle.manifest import ATTENTION_MASK, INPUTS, OUTPUTS, TOKEN_IDS
from tiny_bundle import (
    FLOAT,
    INT64,
    WORDS,
    make_tiny,
    message,
    node,
    tensor,
    value,
)

LATE = LateInteraction(
    score="maxsim",
    query_tokens=4,
    document_tokens=6,
    expansion=None,
    skipped=(),
    skipped_in=("document",),
)
ATTENDED = Expansion(length=4, token=9, attended=True)
HIDDEN = Expansion(length=4, token=9, attended=False)


def late_graph(*, masked: bool, by_token: bool = True) -> bytes:
    """Encode a graph that looks up a row for each token."""
    to_float = (5, message((1, "to"), (3, FLOAT), (20, 2)))
    steps = [
        (1, node("Gather", ["table", "input_ids"], "rows")),
        (1, node("Cast", ["attention_mask"], "shown", to_float)),
        (1, node("Unsqueeze", ["shown", "last"], "weights")),
        (1, node("Mul", ["rows", "weights"], "token_embeddings")),
    ]
    plain = [(1, node("Gather", ["table", "input_ids"], "token_embeddings"))]
    names = [TOKEN_IDS.name, *([ATTENTION_MASK.name] if masked else [])]
    axes = ("batch", "tokens", WORDS) if by_token else ("batch", WORDS)
    outline = message(
        *(steps if masked else plain),
        (5, tensor("table", np.eye(WORDS, dtype=np.float32))),
        *([(5, tensor("last", np.array([2])))] if masked else []),
        (2, "tiny"),
        *((11, value(name, INT64, "batch", "tokens")) for name in names),
        (12, value("token_embeddings", FLOAT, *axes)),
    )
    return message((8, message((1, ""), (2, 17))), (1, 8), (7, outline))


def make_tiny_late(
    folder: Path,
    late: LateInteraction = LATE,
    *,
    graph: bytes | None = None,
    probes: Any = None,
    **changes: Any,
) -> Path:
    """Write a tiny bundle; arguments replace its graph and fields of its manifest."""
    rows = np.eye(WORDS, dtype=np.float32)[[1, 2]].tolist()
    known = [{"task_and_text": ["document", "w1 w2"], "token_embeddings": rows}]
    further = (ATTENTION_MASK,) if late.hides_tokens else ()
    facts: dict[str, Any] = {
        "graph": late_graph(masked=late.hides_tokens) if graph is None else graph,
        "probes": json.dumps(known if probes is None else probes),
        "task": "late-interaction",
        "inputs": INPUTS["late-interaction"] + further,
        "outputs": OUTPUTS["late-interaction"],
        "pooling": (),
        "normalized": True,
        "late_interaction": late,
    }
    return make_tiny(folder, **{**facts, **changes})
