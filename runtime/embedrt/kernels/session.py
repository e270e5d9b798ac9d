"""A model in the library of kernels, which runs batches as a graph in ONNX Runtime does."""

from __future__ import annotations

from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.decoding import REMEDY
from embedrt.errors import BundleCorruptError, NonFiniteEmbeddingError
from embedrt.kernels.encoder import Encoder
from embedrt.kernels.library import Library, LibraryError, describe


class Model:
    """An encoder whose weights are packed for a path, freed with this object.

    Raises LibraryError if the library refuses the encoder.
    """

    def __init__(self, library: Library, path: str, encoder: Encoder) -> None:
        self.hidden = encoder.hidden
        self._library = library
        self._model = library.create(describe(encoder), path)
        self._words = encoder.words  # the model reads them, and they keep the file mapped
        finalize(self, library.destroy, self._model)

    def run(self, input_ids: NDArray[np.int64], *, threads: int) -> NDArray[np.float32]:
        """Run a batch, (batch, tokens) to (batch, dimension); raise LibraryError."""
        return self._library.run(self._model, input_ids, self.hidden, threads=threads)


class KernelSession:
    """Runs a model on `threads` cores. Thread-safe; the result does not depend on their number."""

    def __init__(self, model: Model, path: str, *, threads: int = 1) -> None:
        self.name = f"kernels {path}"
        self.dimension: int | None = model.hidden
        self._model, self._path, self._threads = model, path, threads

    def on(self, threads: int) -> KernelSession:
        """Return the same model on several cores."""
        return KernelSession(self._model, self._path, threads=threads)

    def run(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Run a batch of texts of equal token count, (batch, tokens) to (batch, dimension).

        Raises NonFiniteEmbeddingError, and BundleCorruptError if the ids are not the model's.
        """
        try:
            embeddings = self._model.run(input_ids, threads=self._threads)
        except LibraryError as error:
            raise BundleCorruptError(
                f"the {self.name} refuse a batch of shape {input_ids.shape} ({error}); {REMEDY}"
            ) from error
        if not np.isfinite(embeddings).all():
            raise NonFiniteEmbeddingError(
                f"the model gave NaN or infinity for a batch of shape {input_ids.shape}; "
                "its weights or its bundle are broken: run embedrt verify"
            )
        return embeddings
