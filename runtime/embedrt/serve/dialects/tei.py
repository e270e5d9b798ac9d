"""The routes of text-embeddings-inference, whose fields lie at the root of the body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from embedrt.bundle.manifest import Manifest, Side, Task
from embedrt.serve.errors import Kind, RequestError
from embedrt.serve.fields import Texts, dimensions_of, flag, is_token_ids, texts_of, word, wrong
from embedrt.serve.operation import Dialect, Operation
from embedrt.serve.service import Service, Wanted
from embedrt.serve.wire import TEXT, Incoming, Reply, json_reply
from embedrt.similarity import similarity

SIDES: Final[Mapping[str, Side]] = {
    "Left": "left", "left": "left", "Right": "right", "right": "right",
}  # fmt: skip
ERROR_TYPES: Final[Mapping[Kind, str]] = {
    "empty": "Empty",
    "tokenizer": "Tokenizer",
    "unsupported": "Backend",
    "internal": "Backend",
    "overloaded": "Overloaded",
    "timeout": "Overloaded",
    "unhealthy": "Unhealthy",
}


def error_body(error: RequestError, _: int) -> object:
    """Return an error as TEI's clients read it."""
    return {"error": error.message, "error_type": ERROR_TYPES.get(error.kind, "Validation")}


async def embed(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /embed``: a list of vectors, also for one text."""
    fields = incoming.fields
    texts = inputs_of(service, fields)
    wanted = wanted_of(
        service,
        fields,
        normalize=flag(fields, "normalize", default=True),
        dimensions=dimensions_of(fields, service.manifest.dimension),
    )
    return json_reply((await service.embed(texts, wanted)).vectors)


def inputs_of(service: Service, fields: Mapping[str, Any]) -> Texts:
    """Return the texts in the field ``inputs``."""
    inputs = fields.get("inputs")
    if is_token_ids(inputs):
        raise RequestError(
            "invalid", "inputs holds token ids, which are not supported: send texts", field="inputs"
        )
    return texts_of(inputs, "inputs", service.options.max_texts)


class Compared(Texts):
    """The sentences of a request, and after them the one that they are compared with."""

    def place(self, index: int | None) -> str:
        """Return the name of a sentence."""
        is_source = index == len(self.values) - 1
        return "inputs.source_sentence" if is_source else super().place(index)


async def similarities(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /similarity``: the cosine of each sentence with the source sentence."""
    inputs = incoming.fields.get("inputs")
    if not isinstance(inputs, dict):
        raise wrong("inputs", inputs, "an object with source_sentence and sentences")
    source = word(inputs, "source_sentence", within="inputs")
    if source is None:
        raise RequestError("invalid", "inputs.source_sentence is missing", field="inputs")
    sentences = inputs.get("sentences")
    if not isinstance(sentences, list):
        raise wrong("inputs.sentences", sentences, "a list of strings")
    parameters = incoming.fields.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise wrong("parameters", parameters, "an object")
    texts = texts_of(sentences, "inputs.sentences", service.options.max_texts)
    wanted = wanted_of(service, parameters or {})
    both = Compared(values=[*texts.values, source], name=texts.name, is_one=False)
    vectors = (await service.embed(both, wanted)).vectors
    return json_reply(similarity(vectors[-1:], vectors[:-1], "cosine")[0])


def classifier_type(manifest: Manifest) -> object:
    """Return TEI's `model_type` for a model of scores: a reranker has one, a classifier several."""
    assert manifest.reranking is not None
    labels = manifest.reranking.labels
    facts = {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    return {"reranker" if len(labels) == 1 else "classifier": facts}


MODEL_TYPES: Final[Mapping[Task, Callable[[Manifest], object]]] = {
    "embedding": lambda manifest: {"embedding": {"pooling": "+".join(manifest.pooling)}},
    "reranking": classifier_type,
    "sparse": lambda _: {"embedding": {"pooling": "splade"}},
    "late-interaction": lambda _: {"embedding": {"pooling": "none"}},
}


async def info(service: Service, _: Incoming) -> Reply:
    """Answer ``GET /info``."""
    manifest, options = service.manifest, service.options
    load = service.loaded.options
    facts = {
        "model_id": manifest.source.id,
        "model_sha": manifest.source.revision,
        "model_dtype": {"fp32": "float32"}.get(manifest.precision, manifest.precision),
        "served_model_name": service.name,
        "model_type": MODEL_TYPES[manifest.task](manifest),
        "max_concurrent_requests": load.max_waiting_tokens or (1 << 31) - 1,
        "max_input_length": manifest.max_tokens,
        "max_batch_tokens": load.max_waiting_tokens or (1 << 31) - 1,
        "max_batch_requests": None,
        "max_client_batch_size": options.max_texts,
        "auto_truncate": True,
        "tokenization_workers": load.threads,
        "version": service.version,
        "sha": None,
        "docker_label": None,
    }
    return json_reply(facts)


async def health(service: Service, _: Incoming) -> Reply:
    """Answer ``GET /health``: 200, or 503 with the reason."""
    complaint = await service.health.complaint()
    if complaint is not None:
        raise RequestError("unhealthy", complaint)
    return Reply(content_type=TEXT)


def wanted_of(
    service: Service,
    fields: Mapping[str, Any],
    *,
    normalize: bool = False,
    dimensions: int | None = None,
) -> Wanted:
    """Return the options of a request, from its fields."""
    return Wanted(
        prompt_name=service.prompt_name(fields),
        normalize=normalize,
        dimensions=dimensions,
        truncate=flag(fields, "truncate", default=True),
        side=side_of(fields),
    )


def side_of(fields: Mapping[str, Any]) -> Side | None:
    """Return the field ``truncation_direction``; None for null and absence."""
    side = word(fields, "truncation_direction", tuple(SIDES))
    return None if side is None else SIDES[side]


DIALECT = Dialect(body=error_body, statuses={"invalid": 422, "tokenizer": 422})
OPERATIONS = [
    Operation(path="/embed", method="POST", answer=embed, dialect=DIALECT, task="embedding"),
    Operation(
        path="/similarity", method="POST", answer=similarities, dialect=DIALECT, task="embedding"
    ),
    Operation(path="/info", method="GET", answer=info, dialect=DIALECT),
    *(
        Operation(path=path, method="GET", answer=health, dialect=DIALECT, public=True)
        for path in ("/health", "/ping")
    ),
]
