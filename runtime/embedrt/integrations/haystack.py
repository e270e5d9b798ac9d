"""Haystack: a bundle as the embedders of queries and of documents. Needs embedrt[haystack].

Haystack loads saved pipelines from modules that it knows or that the caller allows:
``Pipeline.loads(text, allowed_modules=["embedrt.integrations.haystack"])``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from embedrt.integrations.encoder import Encoder
from embedrt.integrations.extras import needs

with needs("haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict


Model = TypeVar("Model")


class Settings(Generic[Model]):
    """The parameters of a component, and the model, which the first run loads."""

    def __init__(self, load: Callable[[str, Any], Model], **parameters: Any) -> None:
        """Take the function that loads the model from the parameters `bundle` and `options`."""
        self.parameters = parameters
        self.prefix: str | None = parameters["prefix"]
        self.suffix: str = parameters["suffix"]
        self._load = load
        self._model: Model | None = None

    def warm_up(self) -> Model:
        """Load the bundle, once."""
        if self._model is None:
            self._model = self._load(self.parameters["bundle"], self.parameters["options"])
        return self._model

    def to_dict(self) -> Any:
        """Return the parameters, for a pipeline that is saved."""
        return default_to_dict(self, **self.parameters)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """Make the component of a saved pipeline."""
        return default_from_dict(cls, data)

    def texts(self, documents: list[Document]) -> list[str]:
        """Return what is embedded of each document."""
        return [self._text(document) for document in documents]

    def _text(self, document: Document) -> str:
        names = self.parameters["meta_fields_to_embed"] or []
        parts = [str(document.meta[name]) for name in names if document.meta.get(name) is not None]
        text: str = self.parameters["embedding_separator"].join([*parts, document.content or ""])
        return text + self.suffix


@component
class EmbedrtTextEmbedder(Settings[Encoder]):
    """Embeds one query.

    Parameters
    ----------
    bundle
        The bundle's folder.
    options
        Keywords of `embedrt.Embedder.load`.
    prefix
        The text before the query; None takes the model's prompt for queries.
    suffix
        The text after the query.
    """

    def __init__(
        self,
        bundle: str,
        options: dict[str, Any] | None = None,
        prefix: str | None = None,
        suffix: str = "",
    ) -> None:
        Settings.__init__(  # component() replaces the class, and super() is that of the old one
            self, Encoder.load, bundle=str(bundle), options=options, prefix=prefix, suffix=suffix
        )

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Embed the text. Shape: (dimension,)."""
        return {"embedding": self.warm_up().queries([text + self.suffix], self.prefix)[0]}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """Embed like `run`, without blocking the running asyncio loop."""
        vectors = await self.warm_up().aqueries([text + self.suffix], self.prefix)
        return {"embedding": vectors[0]}


@component
class EmbedrtDocumentEmbedder(Settings[Encoder]):
    """Embeds documents; returns copies of them that have their embeddings.

    Parameters
    ----------
    bundle, options, suffix
        As for `EmbedrtTextEmbedder`.
    prefix
        The text before each document; None takes the model's prompt for documents.
    meta_fields_to_embed
        Names of metadata to put before the content.
    embedding_separator
        The text between these and the content.
    """

    def __init__(
        self,
        bundle: str,
        options: dict[str, Any] | None = None,
        prefix: str | None = None,
        suffix: str = "",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        Settings.__init__(
            self,
            Encoder.load,
            bundle=str(bundle),
            options=options,
            prefix=prefix,
            suffix=suffix,
            meta_fields_to_embed=meta_fields_to_embed,
            embedding_separator=embedding_separator,
        )

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed the documents."""
        vectors = self.warm_up().documents(self.texts(documents), self.prefix)
        return _with_embeddings(documents, vectors)

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """Embed like `run`, without blocking the running asyncio loop."""
        vectors = await self.warm_up().adocuments(self.texts(documents), self.prefix)
        return _with_embeddings(documents, vectors)


def _with_embeddings(documents: list[Document], vectors: list[list[float]]) -> dict[str, Any]:
    pairs = zip(documents, vectors, strict=True)
    return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}
