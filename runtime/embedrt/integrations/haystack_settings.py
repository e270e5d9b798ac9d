"""Haystack: shared code of the components. Needs embedrt[haystack]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from embedrt.integrations.extras import needs

with needs("haystack"):
    from haystack import Document, default_from_dict, default_to_dict


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

    def query(self, text: object) -> str:
        """Return what is embedded of a query; raise TypeError if it is no str."""
        if not isinstance(text, str):
            kind = type(text).__name__
            raise TypeError(f"text must be a str, not {kind}; a DocumentEmbedder takes Documents")
        return text + self.suffix

    def texts(self, documents: list[Document]) -> list[str]:
        """Return the text to embed for each document; raise TypeError for other arguments."""
        if not isinstance(documents, list) or not all(isinstance(d, Document) for d in documents):
            raise TypeError("documents must be a list of Documents; use a TextEmbedder for a str")
        return [self._text(document) for document in documents]

    def _text(self, document: Document) -> str:
        names = self.parameters["meta_fields_to_embed"] or []
        parts = [str(document.meta[name]) for name in names if document.meta.get(name) is not None]
        text: str = self.parameters["embedding_separator"].join([*parts, document.content or ""])
        return text + self.suffix
