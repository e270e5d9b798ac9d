"""A model in the library of kernels, which runs batches as a graph in ONNX Runtime does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.decoding import REMEDY
from embedrt.engine.huge_pages import Regions
from embedrt.engine.runner import Pauses, TextIds, non_finite
from embedrt.errors import BundleCorruptError
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

    @property
    def regions(self) -> Regions:
        """The memory of the packed weights, in small pages at first."""
        return self._library.regions(self._model)

    def run(
        self, texts: TextIds, *, threads: int, pauses: Pauses | None = None
    ) -> NDArray[np.float32]:
        """Run texts of any token counts; return (batch, dimension), or raise LibraryError."""
        counts = np.fromiter(map(len, texts), np.int64, len(texts))
        ids = np.concatenate(texts, dtype=np.int64)
        return self._library.run(
            self._model, ids, counts, self.hidden, threads=threads, pauses=pauses
        )


class KernelSession:
    """Runs a model on `threads` cores. Thread-safe; the result does not depend on their number."""

    mixes = True

    def __init__(self, model: Model, path: str, *, threads: int = 1) -> None:
        self.name = f"kernels {path}"
        self.dimension: int | None = model.hidden
        self.regions = model.regions
        self._model, self._path, self._threads = model, path, threads

    def on(self, threads: int) -> KernelSession:
        """Return the same model on several cores."""
        return KernelSession(self._model, self._path, threads=threads)

    def run(self, texts: TextIds, pauses: Pauses | None = None) -> NDArray[np.float32]:
        """Run a batch of texts of any token counts; return (batch, dimension).

        On one core, `pauses` may interrupt it between layers. Raises NonFiniteEmbeddingError, and
        BundleCorruptError if the ids are not the model's.
        """
        try:
            embeddings = self._model.run(texts, threads=self._threads, pauses=pauses)
        except LibraryError as error:
            raise BundleCorruptError(
                f"the {self.name} refuse a batch of {len(texts)} texts ({error}); {REMEDY}"
            ) from error
        if not np.isfinite(embeddings).all():
            raise non_finite(f"{len(texts)} texts")
        return embeddings


class Packing:
    """A session whose weights another thread packs, while this one reads the tokenizer."""

    def __init__(self, pack: Callable[[], KernelSession]) -> None:
        self._session: Future[KernelSession] = Future()
        self._pack = pack
        self._thread = Thread(target=self._work)
        try:
            self._thread.start()
        except RuntimeError:  # the system has no more threads
            self._work()

    def session(self) -> KernelSession:
        """Return the session; raise what packing raised."""
        if self._thread.ident is not None:
            self._thread.join()
        return self._session.result()

    def _work(self) -> None:
        try:
            self._session.set_result(self._pack())
        except Exception as error:  # noqa: BLE001  # raised by `session`
            self._session.set_exception(error)
