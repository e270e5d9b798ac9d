"""OpenAI's embeddings and models.

Clients request base64 by default, so vectors arrive bit for bit. Unknown fields are ignored,
because vendors add their own.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from embedrt.request import Embedded
from embedrt.serve.errors import RequestError
from embedrt.serve.fields import Texts, dimensions_of, is_token_ids, texts_of, word
from embedrt.serve.operation import Dialect, Operation
from embedrt.serve.service import Service, Wanted
from embedrt.serve.wire import Incoming, Reply, json_reply

TYPES: Final = {401: "invalid_request_error", 429: "rate_limit_error"}
CODES: Final = {
    "unauthorized": "invalid_api_key",
    "not_found": "not_found",
    "overloaded": "rate_limit_exceeded",
    "timeout": "timeout",
    "too_large": "request_too_large",
}
# The words of Cohere, Jina and NVIDIA for the two sides of a search.
QUERY: Final = ("query", "search_query", "retrieval.query")
DOCUMENT: Final = ("document", "passage", "search_document", "retrieval.passage")

WRONG_IDS = (
    "input holds token ids, and they are not this model's: send texts. In LangChain, use "
    "OpenAIEmbeddings(check_embedding_ctx_length=False); or start the server with --tiktoken FILE"
)


def error_body(error: RequestError, status: int) -> object:
    """Return an error as OpenAI's clients read it."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = CODES.get(error.kind)
    return {"error": {"message": error.message, "type": kind, "param": error.field, "code": code}}


async def embeddings(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /v1/embeddings``."""
    fields = incoming.fields
    texts = _texts(service, fields.get("input"))
    encoding = word(fields, "encoding_format", ("float", "base64")) or "float"
    dimensions = dimensions_of(fields, service.manifest.dimension)
    wanted = Wanted(
        prompt_name=_prompt_name(service, fields),
        # Only the vectors of normalized models are normalized, again after truncation.
        normalize=service.manifest.normalized,
        dimensions=dimensions,
    )
    embedded = await service.embed(texts, wanted)
    return json_reply(_answer(service, embedded, encoding))


async def models(service: Service, _: Incoming) -> Reply:
    """Answer ``GET /v1/models``."""
    return json_reply({"object": "list", "data": [_model(service)]})


async def model(service: Service, incoming: Incoming) -> Reply:
    """Answer ``GET /v1/models/{id}``."""
    name = incoming.path["id"]
    if name not in (service.name, service.manifest.source.id):
        raise RequestError("not_found", f"this server has only the model {service.name!r}")
    return json_reply(_model(service))


def _texts(service: Service, value: object) -> Texts:
    if is_token_ids(value):
        if service.vocabulary is None:
            raise RequestError("invalid", WRONG_IDS, field="input")
        value = service.vocabulary.texts_of(value, "input")
    return texts_of(value, "input", service.options.max_texts)


def _prompt_name(service: Service, fields: Mapping[str, Any]) -> str | None:
    for name in ("input_type", "task"):
        asked = word(fields, name, (*QUERY, *DOCUMENT))
        if asked is not None:
            prompts = service.prompts
            return prompts.query if asked in QUERY else prompts.document
    return service.prompt_name(fields)


def _answer(service: Service, embedded: Embedded, encoding: str) -> object:
    vectors: Any = embedded.vectors
    if encoding == "base64":
        vectors = [base64.b64encode(row).decode() for row in vectors.astype("<f4", copy=False)]
    tokens = sum(embedded.token_counts.tolist())
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "model": service.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _model(service: Service) -> object:
    return {"id": service.name, "object": "model", "created": 0, "owned_by": "embedrt"}


DIALECT = Dialect(body=error_body, statuses={"unsupported": 400})
OPERATIONS = [
    *(
        Operation(path=path, method="POST", answer=embeddings, dialect=DIALECT, task="embedding")
        for path in ("/v1/embeddings", "/embeddings")
    ),
    Operation(path="/v1/models", method="GET", answer=models, dialect=DIALECT),
    Operation(path="/v1/models/{id:path}", method="GET", answer=model, dialect=DIALECT),
]
