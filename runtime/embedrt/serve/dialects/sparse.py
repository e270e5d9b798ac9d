"""TEI's ``/embed_sparse``: the terms of each text with their weights."""

from __future__ import annotations

from typing import Any

from embedrt.serve.dialects import tei
from embedrt.serve.operation import Operation
from embedrt.serve.service import Service
from embedrt.serve.wire import Incoming, Reply, json_reply
from embedrt.sparse_rows import SparseRow


async def embed_sparse(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /embed_sparse``: a list of terms for each text, also for one.

    A text with the prompt for queries is computed as a query, if the model has a separate path.
    """
    texts = tei.inputs_of(service, incoming.fields)
    rows = (await service.encode(texts, tei.wanted_of(service, incoming.fields))).vectors
    return json_reply([_terms(row) for row in rows])


def _terms(row: SparseRow) -> list[dict[str, Any]]:
    """Return the terms by ascending index; float32 keeps its fewest digits."""
    pairs = zip(row.indices.tolist(), row.values, strict=True)
    return [{"index": index, "value": value} for index, value in pairs]


OPERATIONS = [
    Operation(
        path="/embed_sparse", method="POST", answer=embed_sparse, dialect=tei.DIALECT, task="sparse"
    )
]
