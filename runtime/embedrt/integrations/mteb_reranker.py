"""MTEB: a reranker as a cross-encoder, for the leaderboard's tasks. Needs embedrt[mteb]."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.integrations.encoder import load_shared
from embedrt.integrations.extras import needs
from embedrt.integrations.mteb import chosen, meta_of, texts_of
from embedrt.reranker import Reranker

with needs("mteb"):
    from mteb.models.model_meta import ModelMeta


class EmbedrtCrossEncoder:
    """A cross-encoder for ``mteb.evaluate``.

    Parameters
    ----------
    bundle
        The bundle's folder, or a loaded Reranker.
    options
        Keywords of `embedrt.Reranker.load`.
    """

    def __init__(self, bundle: str | Path | Reranker, **options: Any) -> None:
        self._reranker = load_shared(Reranker, bundle, options)

    @property
    def reranker(self) -> Reranker:
        """The loaded bundle."""
        return self._reranker

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """The metadata that MTEB stores with the results."""
        return meta_of(self._reranker.manifest, model_type=["cross-encoder"])

    def predict(
        self, inputs1: Iterable[Any], inputs2: Iterable[Any], **given: Any
    ) -> NDArray[np.float32]:
        """Score each text of the first batches with the same one of the second. Shape: (n,).

        Other `encode_kwargs` are keywords of `Reranker.predict`.
        """
        pairs = zip(texts_of(inputs1), texts_of(inputs2), strict=True)
        scores: NDArray[np.float32] = self._reranker.predict(list(pairs), **chosen(given))
        return scores
