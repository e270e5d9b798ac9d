"""``POST /``, by the bundle's task and the fields of the body.

huggingface_hub's InferenceClient sends every task to the URL that it is given, and SageMaker to
``/invocations``.
"""

from __future__ import annotations

from typing import Final

from embedrt.bundle.manifest import Task
from embedrt.serve.dialects import late, predict, rerank, sparse, tei
from embedrt.serve.operation import Handler, Operation
from embedrt.serve.service import Service
from embedrt.serve.wire import Incoming, Reply


async def embedding(service: Service, incoming: Incoming) -> Reply:
    """Compare sentences if `inputs` is an object, else embed."""
    inputs = incoming.fields.get("inputs")
    handler = tei.similarities if isinstance(inputs, dict) else tei.embed
    return await handler(service, incoming)


async def reranking(service: Service, incoming: Incoming) -> Reply:
    """Predict if there are `inputs`, else rank."""
    handler = predict.predict if "inputs" in incoming.fields else rerank.by_fields
    return await handler(service, incoming)


ROOTS: Final[dict[Task, Handler]] = {
    "embedding": embedding,
    "reranking": reranking,
    "sparse": sparse.embed_sparse,
    "late-interaction": late.embed_all,
}


async def root(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /``."""
    return await ROOTS[service.manifest.task](service, incoming)


OPERATIONS = [
    Operation(path=path, method="POST", answer=root, dialect=tei.DIALECT)
    for path in ("/", "/invocations")
]
