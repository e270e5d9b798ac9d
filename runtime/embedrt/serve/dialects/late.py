"""TEI's ``/embed_all``: a vector for each token of each text."""

from __future__ import annotations

from embedrt.serve.dialects import tei
from embedrt.serve.errors import RequestError
from embedrt.serve.operation import Operation
from embedrt.serve.service import Service
from embedrt.serve.wire import Incoming, Reply, json_reply

MOST_NUMBERS = 16_000_000  # of an answer, at 15 bytes each with their spelling


async def embed_all(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /embed_all``: a list of vectors for each text, also for one.

    A text with the prompt for queries, or for documents, is computed as one.
    """
    texts = tei.inputs_of(service, incoming.fields)
    tokens = service.manifest.max_tokens
    most = max(1, MOST_NUMBERS // (tokens * service.manifest.dimension))
    if len(texts.values) > most:
        raise RequestError(
            "invalid",
            f"inputs has {len(texts.values):,} texts, of up to {tokens:,} vectors each; send at "
            f"most {most:,} at once",
            field="inputs",
        )
    wanted = tei.wanted_of(service, incoming.fields)
    return json_reply((await service.encode(texts, wanted)).vectors)


OPERATIONS = [
    Operation(
        path="/embed_all",
        method="POST",
        answer=embed_all,
        dialect=tei.DIALECT,
        task="late-interaction",
    )
]
