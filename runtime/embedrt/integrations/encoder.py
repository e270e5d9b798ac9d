"""The model behind an adapter, loaded once per bundle, with methods for queries and documents.

Most frameworks expect lists of floats. A Python float represents a float32 exactly, so no precision
is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

from embedrt.bundle.reader import Bundle
from embedrt.embedder import Embedder
from embedrt.engine.forks import call_in_forks
from embedrt.loaded import LoadedBundle, LoadOptions
from embedrt.request import EncodeOptions, with_prompt
from embedrt.text.prompts import Prompts

Vectors = list[list[float]]

Loaded = TypeVar("Loaded", bound=LoadedBundle)
Several = TypeVar("Several")


class _Shared:
    """The loaded bundles, by class, folder and options."""

    def __init__(self) -> None:
        self._loaded: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
        self.reset_lock()
        call_in_forks(self.reset_lock)

    def reset_lock(self) -> None:
        """Release the lock, which a thread of the parent may have held."""
        self._lock = Lock()

    def get(self, key: Hashable, load: Callable[[], Loaded]) -> Loaded:
        """Return the bundle of a key; load it if there is none, or if it is not usable."""
        with self._lock:
            found: Loaded | None = self._loaded.get(key)
            if found is None or not found.is_usable:
                found = self._loaded[key] = load()
            return found


_SHARED = _Shared()


def load_shared(
    kind: type[Loaded], bundle: str | Path | Loaded, options: Mapping[str, Any] | None = None
) -> Loaded:
    """Load a bundle with the class for its task, or return the one that is loaded already.

    The options are keywords of `LoadedBundle.load`. Equal bundles with equal options are loaded
    once; see `Encoder.load`, also about errors.
    """
    if isinstance(bundle, kind):
        if options:
            raise TypeError(
                f"{sorted(options)} cannot be set: the {kind.__name__} is loaded already"
            )
        return bundle
    assert isinstance(bundle, str | Path)
    rest = dict(options or {})
    found = Bundle.open(bundle, verify=rest.pop("verify", "size"))
    chosen = LoadOptions(**rest)
    key = (kind, found.path.absolute(), _digest(found), chosen)
    return _SHARED.get(key, partial(kind, found, chosen))


@dataclass(frozen=True, slots=True)
class Encoder:
    """An `Embedder` that returns lists of floats, with one method for each side of a search."""

    embedder: Embedder

    @classmethod
    def load(cls, bundle: str | Path | Embedder, options: Mapping[str, Any] | None = None) -> Self:
        """Load a bundle, or take an Embedder that is loaded already.

        Adapters of the same bundle with the same options share one Embedder, because frameworks
        create a new adapter whenever a collection or a pipeline is opened. The Embedder is closed
        with the last adapter.

        Parameters
        ----------
        bundle
            The bundle's folder, or an Embedder, which keeps its options.
        options
            Keywords of `Embedder.load`.

        Raises
        ------
        BundleError
            As `Embedder.load`.
        TypeError, ValueError
            An option is unknown or invalid, or is given together with an Embedder.
        """
        return cls(load_shared(Embedder, bundle, options))

    def queries(self, texts: Sequence[str], prompt: str | None = None) -> Vectors:
        """Embed queries, with the model's prompt for them or another. Shape: (n, dimension)."""
        return _lists(self.embedder.encode_query(several(texts), prompt=prompt))

    def documents(self, texts: Sequence[str], prompt: str | None = None) -> Vectors:
        """Embed documents, with the model's prompt for them or another. Shape: (n, dimension)."""
        return _lists(self.embedder.encode_document(several(texts), prompt=prompt))

    async def aqueries(self, texts: Sequence[str], prompt: str | None = None) -> Vectors:
        """Embed queries like `queries`, without blocking the running asyncio loop."""
        return await self._awaited(texts, prompt, self._prompts.query)

    async def adocuments(self, texts: Sequence[str], prompt: str | None = None) -> Vectors:
        """Embed documents like `documents`, without blocking the running asyncio loop."""
        return await self._awaited(texts, prompt, self._prompts.document)

    async def _awaited(self, texts: Sequence[str], prompt: str | None, name: str) -> Vectors:
        options: EncodeOptions = {"prompt": prompt}
        return _lists(await self.embedder.aencode(several(texts), **with_prompt(options, name)))

    @property
    def _prompts(self) -> Prompts:
        return Prompts.of(self.embedder.manifest)


def digest(bundle: str | Path) -> str:
    """Return the hash of a bundle's content, as 64 hexadecimal digits."""
    return _digest(Bundle.open(bundle))


def _digest(bundle: Bundle) -> str:
    # The manifest holds the sha256 of each of the other files.
    return hashlib.sha256(bundle.manifest.to_json().encode()).hexdigest()


def several(texts: Several) -> Several:
    """Return the argument; raise TypeError if it is one str, which `encode` would accept."""
    if isinstance(texts, str):
        raise TypeError(f"one str was passed; expected a list of texts, [{texts[:20]!r}]")
    return texts


def _lists(vectors: Any) -> Vectors:
    lists: Callable[[], Vectors] = vectors.tolist
    return lists()
