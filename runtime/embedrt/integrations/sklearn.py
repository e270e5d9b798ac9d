"""scikit-learn: a bundle as a transformer from texts to features. Needs embedrt[sklearn]."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedrt.embedder import Embedder
from embedrt.integrations.encoder import Encoder, several
from embedrt.integrations.extras import needs

with needs("sklearn"):
    from sklearn.base import BaseEstimator, TransformerMixin


class TextEmbedder(TransformerMixin, BaseEstimator):
    """Embeds texts. Stateless: `fit` learns nothing.

    Parameters
    ----------
    bundle
        The bundle's folder.
    options
        Keywords of `embedrt.Embedder.load`.
    prompt_name
        The prompt to prepend; by default that of `encode`.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        options: Mapping[str, Any] | None = None,
        prompt_name: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.options = options
        self.prompt_name = prompt_name

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ARG002, N803  # the protocol's
        """Load the bundle, and check the kind of the input."""
        _column(X)
        self._embedder()
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Embed the texts. Shape: (n,), or (n, 1) for a column, to (n, dimension)."""
        return self._embedder().encode(_column(X), prompt_name=self.prompt_name)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Return a name for each component of an embedding."""
        count = self._embedder().dimension
        return np.array([f"embedrt{number}" for number in range(count)], object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _embedder(self) -> Embedder:
        """Load the bundle, or return it if it is loaded and the parameters are the same."""
        wanted = (self.bundle, dict(self.options or {}))
        if getattr(self, "_loaded_from", None) != wanted:
            self._loaded = Encoder.load(self.bundle, self.options).embedder
            self._loaded_from = wanted
        return self._loaded


def _column(texts: Any) -> Any:
    """Return the texts of a column in one dimension.

    Raises ValueError for another shape, TypeError for one str.
    """
    shape: tuple[int, ...] = getattr(several(texts), "shape", (0,))
    if len(shape) == 1:
        return texts
    if len(shape) != 2 or shape[1] != 1:
        raise ValueError(f"the texts have shape {shape}, {shape[-1]} columns; expected one column")
    return np.ravel(texts)
