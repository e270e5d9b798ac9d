"""MTEB: a bundle as an encoder, for the leaderboard's tasks. Needs embedrt[mteb]."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedrt.bundle.manifest import Manifest
from embedrt.embedder import Embedder
from embedrt.integrations.encoder import Encoder
from embedrt.integrations.extras import needs

with needs("mteb"):
    from mteb.models.abs_encoder import get_prompt_name
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType


# What MTEB passes to every model, and what changes no result: MTEB sets the size of batches to 32.
PASSED = {
    "task_metadata",
    "prompt_type",
    "hf_split",
    "hf_subset",
    "batch_size",
    "show_progress_bar",
}


def chosen(given: dict[str, Any]) -> dict[str, Any]:
    """Return those of the keywords that a user has chosen in ``encode_kwargs``."""
    return {name: value for name, value in given.items() if name not in PASSED}


def texts_of(batches: Iterable[Any]) -> list[str]:
    """Return the texts of all batches."""
    return [text for batch in batches for text in batch["text"]]


def meta_of(manifest: Manifest, **own: Any) -> ModelMeta:
    """Return the metadata that MTEB stores with the results: of every bundle, and of its task."""
    facts = {
        "name": f"embedrt/{manifest.name}",
        "revision": manifest.source.revision or "no_revision_available",
        "max_tokens": manifest.max_tokens,
        "license": manifest.source.license,
        "framework": ["ONNX"],
        "adapted_from": manifest.source.id,
    }
    return ModelMeta.create_empty(overwrites=facts | own)


class EmbedrtModel:
    """An encoder for ``mteb.evaluate``.

    MTEB selects the prompt of a task from the model's prompts by the task's name, its type, and the
    side. If it selects none, queries and documents are encoded as by `encode_query` and
    `encode_document`, and other texts as by `encode`.

    Parameters
    ----------
    bundle
        The bundle's folder, or a loaded Embedder.
    options
        Keywords of `embedrt.Embedder.load`.
    """

    def __init__(self, bundle: str | Path | Embedder, **options: Any) -> None:
        self._encoder = Encoder.load(bundle, options)

    @property
    def embedder(self) -> Embedder:
        """The loaded bundle."""
        return self._encoder.embedder

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """The metadata that MTEB stores with the results."""
        manifest = self.embedder.manifest
        return meta_of(
            manifest,
            embed_dim=manifest.dimension,
            similarity_fn_name=ScoringFunction(manifest.similarity),
        )

    def encode(
        self, inputs: Iterable[Any], *, task_metadata: Any, prompt_type: Any = None, **given: Any
    ) -> NDArray[Any]:
        """Embed the texts of the batches. Shape: (n, dimension).

        Other `encode_kwargs`, such as ``precision``, are keywords of `Embedder.encode`.
        """
        texts, options = texts_of(inputs), chosen(given)
        name = get_prompt_name(self.embedder.prompts, task_metadata, prompt_type)
        if name is not None:
            return self.embedder.encode(texts, prompt_name=name, **options)
        if prompt_type == PromptType.query:
            return self.embedder.encode_query(texts, **options)
        if prompt_type == PromptType.document:
            return self.embedder.encode_document(texts, **options)
        return self.embedder.encode(texts, **options)

    def similarity(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
        """Score each row of `a` against each row of `b`. Shape: (n, m)."""
        return self.embedder.similarity(a, b)

    def similarity_pairwise(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
        """Score each row of `a` against the same row of `b`. Shape: (n,)."""
        return self.embedder.similarity_pairwise(a, b)
