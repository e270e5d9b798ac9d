"""Ranks documents for a query, in the formats of TEI, of Cohere and Jina, and of Weaviate.

The three share the path ``/rerank``; the fields of the body determine the format. The response to
Cohere's clients also has the fields that Jina's and vLLM's read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from embedrt.serve.dialects import tei, weaviate
from embedrt.serve.errors import RequestError
from embedrt.serve.fields import Texts, count_of, flag, required, texts_of, wrong
from embedrt.serve.operation import Dialect, Handler, Operation
from embedrt.serve.service import Scoring, Service
from embedrt.serve.wire import Incoming, Reply, json_reply

if TYPE_CHECKING:
    from embedrt.reranker import Scored


@dataclass(frozen=True, slots=True)
class Ranking:
    """The documents of a request, their scores, and their order."""

    texts: Texts
    scored: Scored
    order: NDArray[np.intp]
    """Indices of documents, best first."""

    def results(self, score: str, text: str | None = None, *, nested: bool = False) -> list[Any]:
        """Return an object per document: its index, its score and, if `text` is set, its text.

        `score` and `text` are the names of the fields.
        """
        scores, texts = self.scored.scores, self.texts.values
        results: list[dict[str, Any]] = [
            {"index": index, score: scores[index]} for index in self.order.tolist()
        ]
        if text is not None:
            for each in results:
                value = weaviate.echo(texts[each["index"]])
                each[text] = {"text": value} if nested else value
        return results


async def of_tei(service: Service, incoming: Incoming) -> Reply:
    """Answer TEI's clients: a list of indices and scores, best first."""
    fields = incoming.fields
    texts = texts_of(_list(fields, "texts"), "texts", service.options.max_texts)
    raw = flag(fields, "raw_scores", default=False)
    wanted = Scoring(
        prompt_name=service.prompt_name(fields),
        activation="Identity" if raw else "Sigmoid",
        truncate=flag(fields, "truncate", default=True),
        side=tei.side_of(fields),
    )
    named = "text" if flag(fields, "return_text", default=False) else None
    most = count_of(fields, "top_n")  # LiteLLM sends it
    scored = await _scored(service, fields, texts, wanted)
    # Of equal scores, the larger index comes first, as in TEI.
    order = np.argsort(scored.scores, kind="stable")[::-1][:most]
    return json_reply(Ranking(texts, scored, order).results("score", named))


async def of_cohere(service: Service, incoming: Incoming) -> Reply:
    """Answer the clients of Cohere, Jina and vLLM: an object with the results, best first."""
    fields = incoming.fields
    texts = _documents(service, fields)
    raw = flag(fields, "raw_scores", default=False)  # Infinity's field
    wanted = Scoring(
        prompt_name=service.prompt_name(fields), activation="Identity" if raw else "Sigmoid"
    )
    named = "document" if flag(fields, "return_documents", default=False) else None
    most = count_of(fields, "top_n")
    scored = await _scored(service, fields, texts, wanted)
    order = np.argsort(-scored.scores, kind="stable")[:most]
    tokens = int(np.sum(scored.token_counts))
    return json_reply(
        {
            "id": token_hex(16),
            "object": "rerank",
            "model": service.name,
            "results": Ranking(texts, scored, order).results("relevance_score", named, nested=True),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"search_units": 1},
                "tokens": {"input_tokens": tokens},
            },
        }
    )


async def of_weaviate(service: Service, incoming: Incoming) -> Reply:
    """Answer Weaviate: documents with the model's own scores, in the order given."""
    fields = incoming.fields
    query = required(fields, "query")
    if fields.get("documents") is None:
        text = required(fields, "property")
        only = Texts(values=[text], name="property", is_one=True)
        (score,) = (await _scored(service, fields, only, Scoring())).scores
        answer = {"query": weaviate.echo(query), "property": weaviate.echo(text), "score": score}
        return json_reply(answer)
    texts = texts_of(_list(fields, "documents"), "documents", service.options.max_texts)
    scores = (await _scored(service, fields, texts, Scoring())).scores
    pairs = zip(texts.values, scores, strict=True)
    listed = [{"document": weaviate.echo(text), "score": score} for text, score in pairs]
    return json_reply({"query": weaviate.echo(query), "scores": listed})


async def by_fields(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /rerank``, errors included, in the dialect determined by the body's fields."""
    if "property" in incoming.fields:
        return await _in(weaviate.DIALECT, of_weaviate, service, incoming)
    if "documents" in incoming.fields:
        return await _in(DIALECT, of_cohere, service, incoming)
    return await of_tei(service, incoming)


def error_body(error: RequestError, _: int) -> object:
    """Return an error in the format of Cohere's and Jina's clients."""
    return {"message": error.message, "detail": error.message}


async def _in(dialect: Dialect, handler: Handler, service: Service, incoming: Incoming) -> Reply:
    try:
        return await handler(service, incoming)
    except RequestError as error:
        return dialect.reply(error)


async def _scored(
    service: Service, fields: Mapping[str, Any], texts: Texts, wanted: Scoring
) -> Scored:
    """Return the score of each text for the field ``query``."""
    labels = service.manifest.dimension
    if labels != 1:
        raise RequestError(
            "unsupported",
            f"{service.name} gives each pair {labels} scores, which define no order; call /predict",
        )
    query = required(fields, "query")
    most = service.options.max_body_bytes
    if len(query) * len(texts.values) > most:  # each document is tokenized with it
        raise RequestError(
            "too_large",
            f"query has {len(query):,} characters, and {texts.name} {len(texts.values):,} texts; "
            f"their product may be {most:,}. Shorten the query, or send fewer texts at once",
            field="query",
        )
    return await service.score([(query, text) for text in texts.values], texts, wanted)


def _list(fields: Mapping[str, Any], name: str) -> object:
    """Return a field that must be a list; `texts_of` looks at its elements."""
    value = fields.get(name)
    if isinstance(value, str):
        raise wrong(name, value, "a list of strings")
    return value


def _documents(service: Service, fields: Mapping[str, Any]) -> Texts:
    """Return the field ``documents``: strings, or objects with a text."""
    if fields.get("rank_fields") not in (None, [], ["text"]):
        raise RequestError(
            "invalid",
            'rank_fields is not supported; send each document as a string, or as {"text": ...}',
            field="rank_fields",
        )
    documents = _list(fields, "documents")
    if isinstance(documents, list):
        documents = [_text_of(document, index) for index, document in enumerate(documents)]
    return texts_of(documents, "documents", service.options.max_texts)


def _text_of(document: object, index: int) -> object:
    if not isinstance(document, dict):
        return document
    text = document.get("text")
    if not isinstance(text, str):
        raise wrong(f"documents[{index}].text", text, "a string")
    return text


DIALECT: Final = Dialect(body=error_body, statuses={"unsupported": 400})
OPERATIONS = [
    Operation(
        path="/rerank", method="POST", answer=by_fields, dialect=tei.DIALECT, task="reranking"
    ),
    *(
        Operation(path=path, method="POST", answer=of_cohere, dialect=DIALECT, task="reranking")
        for path in ("/v1/rerank", "/v2/rerank")
    ),
]
