"""Which prompt is put before a text, by the rules of sentence-transformers.

Queries and documents have prompts of their own: where the model names none, nothing is put before
them, and the model's default prompt is left to `encode`. Documents take the first that the model
has of ``document``, ``passage`` and ``corpus``, as sentence-transformers documents it; its code (up
to 6.2) adds an empty ``document`` to every model that lacks one and so never gets to the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from embedrt.bundle.manifest import Manifest
from embedrt.text.inputs import as_text

QUERY = "query"
DOCUMENT = ("document", "passage", "corpus")

# Empty in every model that does not say otherwise.
ALWAYS = {QUERY: "", DOCUMENT[0]: ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts of a model."""

    named: Mapping[str, str]
    """Text by name; an empty one says that nothing is put before the text."""
    default: str | None
    """The name of the one that is used where none is asked for."""

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Take those of a bundle."""
        return cls(named=manifest.prompts, default=manifest.default_prompt_name)

    @property
    def query(self) -> str:
        """The name of the prompt for queries."""
        return QUERY

    @property
    def document(self) -> str:
        """The name of the prompt for documents."""
        return next((name for name in DOCUMENT if name in self.named), DOCUMENT[0])

    def choose(self, name: str | None = None, prompt: str | None = None) -> str:
        """Return what goes before a text: `prompt`, or the one of this name, or the default.

        Raises ValueError for both at once or a name that the model does not have, TypeError for a
        prompt that is no str.
        """
        if prompt is not None:
            if name is not None:
                raise ValueError("pass prompt or prompt_name, not both")
            return as_text(prompt)
        name = self.default if name is None else name
        if name is None:
            return ""
        known = {**ALWAYS, **self.named}
        if name not in known:
            raise ValueError(f"prompt_name={name!r}; this model has {sorted(self.named) or 'none'}")
        return as_text(known[name])
