"""The choice of a prompt, by the rules of sentence-transformers.

Queries and documents have prompts of their own. A model without them adds no prompt to queries and
documents: its default prompt is for `encode` alone. Documents use the first of ``document``,
``passage`` and ``corpus`` that the model has. sentence-transformers documents this rule, but its
code (up to 6.2) adds an empty ``document`` to every model without one, and never reaches the other
two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from embedrt.bundle.manifest import Manifest
from embedrt.text.inputs import as_text

QUERY = "query"
DOCUMENT = ("document", "passage", "corpus")

# Prompts that every model has; empty unless the model defines them.
ALWAYS = {QUERY: "", DOCUMENT[0]: ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts of a model."""

    named: Mapping[str, str]
    """The prompts by name; an empty one adds nothing."""
    default: str | None
    """The name of the prompt that `encode` uses by default."""

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the prompts of a bundle."""
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
        """Return the text to prepend: `prompt`, else the prompt called `name`, else the default.

        Raises ValueError if both arguments are given or the name is unknown, TypeError if the
        prompt is not a str.
        """
        if prompt is not None:
            if name is not None:
                raise ValueError("pass prompt or prompt_name, not both")
            if not isinstance(prompt, str):
                raise TypeError(f"prompt={prompt!r}; expected a str, or None")
            return as_text(prompt)
        name = self.default if name is None else name
        if name is None:
            return ""
        known = {**ALWAYS, **self.named}
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"prompt_name={name!r}; this model has {sorted(self.named) or 'none'}")
        return as_text(known[name])
