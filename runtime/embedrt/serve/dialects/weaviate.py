"""The inference container of Weaviate's text2vec-transformers.

Weaviate marks texts as queries or passages, so that the model's prompts can be applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedrt.serve.dialects.tei import health, info
from embedrt.serve.errors import RequestError
from embedrt.serve.fields import dimensions_of, texts_of, word, wrong
from embedrt.serve.operation import Dialect, Operation
from embedrt.serve.service import Service, Wanted
from embedrt.serve.wire import Incoming, Reply, json_reply

# Weaviate sends it for every class whose author has not chosen a pooling.
DEFAULT_POOLING = "masked_mean"


def error_body(error: RequestError, _: int) -> object:
    """Return an error as Weaviate reads it."""
    return {"error": error.message}


async def vectors(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /vectors`` for one text or several."""
    fields = incoming.fields
    config = fields.get("config")
    if config is not None and not isinstance(config, dict):
        raise wrong("config", config, "an object")
    wanted = _wanted(service, config or {})
    many = fields.get("texts")
    if many is not None:
        if not isinstance(many, list):
            raise wrong("texts", many, "a list of strings")
        texts = texts_of(many, "texts", service.options.max_texts)
        found = (await service.embed(texts, wanted)).vectors
        return json_reply({"vectors": found, "dims": found.shape[1]})
    text = word(fields, "text")
    if text is None:
        raise RequestError("invalid", "text is missing", field="text")
    (vector,) = (await service.embed(texts_of(text, "text", 1), wanted)).vectors
    size = len(vector)
    # The container says `dim`, and Weaviate reads `dims`.
    return json_reply({"text": echo(text), "vector": vector, "dim": size, "dims": size})


async def probe(service: Service, incoming: Incoming) -> Reply:
    """Answer ``GET /.well-known/ready``."""
    await health(service, incoming)
    return Reply(status=204)


async def alive(_: Service, __: Incoming) -> Reply:
    """Answer ``GET /.well-known/live``."""
    return Reply(status=204)


def echo(text: str) -> str:
    """Return the text with unpaired surrogates replaced, as it was computed."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _wanted(service: Service, config: Mapping[str, Any]) -> Wanted:
    task = word(config, "task_type", ("query", "passage"), within="config")
    pooling = word(config, "pooling_strategy", within="config")
    own = service.manifest.pooling  # that of the graph, which no request can change
    if pooling is not None and pooling != DEFAULT_POOLING and (pooling,) != own:
        message = f"config.pooling_strategy is {pooling[:40]!r}; this model's is {'+'.join(own)}"
        raise RequestError("invalid", message, field="config.pooling_strategy")
    prompts = service.prompts
    names = {"query": prompts.query, "passage": prompts.document}
    dimensions = dimensions_of(config, service.manifest.dimension, within="config")
    return Wanted(
        prompt_name=None if task is None else names[task],
        normalize=service.manifest.normalized,
        dimensions=dimensions,
    )


DIALECT = Dialect(body=error_body, statuses={"invalid": 422})
OPERATIONS = [
    *(
        Operation(path=path, method="POST", answer=vectors, dialect=DIALECT, task="embedding")
        for path in ("/vectors", "/vectors/")
    ),
    Operation(path="/meta", method="GET", answer=info, dialect=DIALECT),
    Operation(path="/.well-known/live", method="GET", answer=alive, dialect=DIALECT, public=True),
    Operation(path="/.well-known/ready", method="GET", answer=probe, dialect=DIALECT, public=True),
]
