"""DSPy: a bundle as a ``dspy.Embedder``. Needs embedrt[dspy].

DSPy caches embeddings in memory and on disk, by the texts and the source code of the embedding
function. Two bundles have the same code, so one would get the cached vectors of the other. For an
object without source code, DSPy uses its ``__name__``. Here, this name contains everything that
vectors and errors depend on: the hash of the bundle, the engine, and the treatment of texts that
are too long.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedrt.embedder import Embedder
from embedrt.integrations.encoder import Encoder, digest
from embedrt.integrations.extras import needs

with needs("dspy"):
    import dspy


def embedder(
    bundle: str | Path, *, options: Mapping[str, Any] | None = None, **keywords: Any
) -> dspy.Embedder:
    """Return the embedder of a bundle.

    Parameters
    ----------
    bundle
        The bundle's folder.
    options
        Keywords of `embedrt.Embedder.load`.
    keywords
        Those of ``dspy.Embedder``, ``batch_size`` and ``caching``, and those of
        `embedrt.Embedder.encode`: ``prompt_name="query"`` makes an embedder for queries.
    """
    return dspy.Embedder(_Named(bundle, options), **keywords)


class _Named:
    """The function that DSPy calls, named by all that its results depend on."""

    def __init__(self, bundle: str | Path, options: Mapping[str, Any] | None) -> None:
        self._embedder: Embedder = Encoder.load(bundle, options).embedder
        engine, overlong = self._embedder.stats().engine, self._embedder.options.overlong
        self.__name__ = f"embedrt {digest(bundle)}, {engine}, overlong={overlong}"

    def __call__(self, texts: list[str], **options: Any) -> NDArray[np.float32]:
        return self._embedder.encode(texts, **options)

    def __deepcopy__(self, memo: object) -> Self:
        """Return this object: DSPy copies cached objects, and a copy would load the bundle."""
        return self
