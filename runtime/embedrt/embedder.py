"""The `Embedder`: computes embeddings of texts.

    tokenize -> batches of equal token count -> run on workers, one core each -> input order

A text always gives the same bytes, alone or in any batch, with any number of workers. Texts of
different callers can therefore share a batch, and equal texts are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedrt import similarity
from embedrt.bundle.graph_rules import check_graph
from embedrt.bundle.manifest import Manifest, Side, Similarity
from embedrt.bundle.reader import Bundle, Verify
from embedrt.engine.cache import VectorCache
from embedrt.engine.cpu import available_threads
from embedrt.engine.scheduler import Engine
from embedrt.engine.stats import Stats
from embedrt.errors import BundleCorruptError
from embedrt.postprocess import EmbeddingPrecision
from embedrt.progress import progress_bar
from embedrt.request import (
    STREAM_CACHE_BYTES,
    Embedded,
    EncodeOptions,
    LoadOptions,
    Requests,
    run_ahead,
    with_prompt,
)
from embedrt.similarity import Hit
from embedrt.spellings import OMITTED, Spellings
from embedrt.text.inputs import Texts, as_batch, as_text
from embedrt.text.tokenizer import TokenIds, Tokenizer
from embedrt.text.truncation import Overlong

FloatArray = NDArray[np.float32]

MEGABYTE = 1_000_000


class Embedder:
    """A loaded bundle. Thread-safe. Close it after use, or use it in a ``with`` block."""

    def __init__(self, bundle: Bundle, options: LoadOptions | None = None) -> None:
        options = options or LoadOptions()
        self._options = replace(options, threads=options.threads or available_threads())
        check_graph(bundle.graph, bundle.weights_size)
        self._manifest = bundle.manifest
        self._tokenizer = Tokenizer(
            bundle.tokenizer,
            max_tokens=bundle.manifest.max_tokens,
            max_characters=bundle.manifest.max_characters,
            truncation_side=bundle.manifest.truncation_side,
        )
        self._engine = Engine(
            bundle.graph,
            bundle.manifest.precision,
            self._options.threads or 1,
            self._tokenizer.batch_ids,
            weights=bundle.load_weights(mapped=options.mapped),
            max_tokens=self.max_tokens,
            cache_bytes=int(options.cache_mb * MEGABYTE),
            max_waiting_tokens=options.max_waiting_tokens,
            runs_at_once=bundle.manifest.is_static,
        )
        self._requests = Requests(bundle.manifest, self._tokenizer, options.overlong)
        self._cached = options.cache_mb > 0
        if self._engine.dimension not in (None, self.dimension):
            raise BundleCorruptError(
                f"{bundle.path}: the graph gives {self._engine.dimension} components and the "
                f"manifest says {self.dimension}; copy or export the bundle again"
            )
        self._load_again = partial(type(self).load, bundle.path.absolute(), **asdict(options))

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threads: int | None = None,
        overlong: Overlong = "truncate",
        cache_mb: float = 0,
        max_waiting_tokens: int | None = None,
        mapped: bool = True,
        verify: Verify = "size",
    ) -> Self:
        """Load a bundle.

        Parameters
        ----------
        path
            The bundle's folder, or ``hub:org/name@COMMIT``, which is pulled from a hub once.
        verify
            ``"size"`` checks the sizes of the bundle's files, ``"sha256"`` also their content.
        threads, overlong, cache_mb, max_waiting_tokens, mapped
            See `LoadOptions`.

        Raises
        ------
        BundleError
            There is no bundle, its format is unknown, or its files differ from the manifest.
        """
        options = LoadOptions(
            threads=threads,
            overlong=overlong,
            cache_mb=cache_mb,
            max_waiting_tokens=max_waiting_tokens,
            mapped=mapped,
        )
        return cls(Bundle.open(path, verify=verify), options)

    @property
    def manifest(self) -> Manifest:
        """All metadata of the bundle and its model."""
        return self._manifest

    @property
    def options(self) -> LoadOptions:
        """The options of `load`, with the number of `threads` that is used."""
        return self._options

    @property
    def dimension(self) -> int:
        """Components of an embedding."""
        return self._manifest.dimension

    @property
    def max_tokens(self) -> int:
        """Number of tokens that a text is truncated to, including special tokens."""
        return self._manifest.max_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer."""
        return self._tokenizer

    @property
    def prompts(self) -> dict[str, str]:
        """The texts that can be prepended to the input, by name."""
        return dict(self._manifest.prompts)

    @property
    def default_prompt_name(self) -> str | None:
        """The name of the prompt that `encode` uses by default."""
        return self._manifest.default_prompt_name

    @property
    def similarity_fn_name(self) -> Similarity:
        """The score that the model was trained for, computed by `similarity`."""
        return self._manifest.similarity

    # The following names are those of SentenceTransformer, for code written for it.
    max_seq_length = max_tokens

    def get_max_seq_length(self) -> int:
        """Return `max_tokens`."""
        return self.max_tokens

    def get_embedding_dimension(self) -> int:
        """Return `dimension`."""
        return self.dimension

    get_sentence_embedding_dimension = get_embedding_dimension

    def encode(
        self,
        texts: Texts = OMITTED,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = False,
        *,
        precision: EmbeddingPrecision = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        **spellings: Unpack[Spellings],
    ) -> NDArray[Any]:
        """Embed one or more texts, like ``SentenceTransformer.encode``.

        Parameters
        ----------
        texts
            One str, or any ordered iterable of str: list, tuple, generator, pandas Series, numpy or
            pyarrow string array.
        prompt_name
            The name of the prompt to prepend to each text; by default the manifest's default
            prompt. ``query`` and ``document`` are empty if the manifest does not have them.
        prompt
            A string to prepend to each text, instead of a named prompt.
        batch_size
            Upper limit of the texts in a batch. It affects memory use and speed, never the result.
        show_progress_bar
            Show progress on stderr.
        precision
            ``float32``, ``float16``, ``int8``, ``uint8``, ``binary`` or ``ubinary``: see
            `quantize_embeddings`, also about why ``int8`` and ``uint8`` results depend on all texts
            of the call.
        normalize_embeddings
            Scale each vector to length 1, after `truncate_dim`.
        truncate_dim
            Number of leading components to keep, for models trained with Matryoshka losses.
        spellings
            Other keywords of ``SentenceTransformer.encode``, with values that change nothing.

        Returns
        -------
        array
            Shape: (n, dimension) in the order of `texts`; (dimension,) for one str. float32 unless
            `precision` says otherwise.

        Raises
        ------
        TypeError
            An element of `texts` is not a str. Raised before any text is embedded, with its index.
        ValueError
            An argument is invalid or not supported.
        OverlongTextError
            With ``overlong="error"``, a text has more than `max_tokens` tokens. Has its index.
        TokenizationError
            The tokenizer fails on a text. Has its index; later calls are not affected.
        OverloadedError
            The call would exceed `max_waiting_tokens`; nothing is queued.
        ClosedError
            The Embedder is closed.
        ForkedError
            The process was forked while the Embedder was running.
        """
        request = self._requests.one(
            texts,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            **spellings,
        )
        shown = bool(show_progress_bar)
        with progress_bar(len(request.call.vectors), shown=shown) as advance:
            self._engine.run(request.call, advance if shown else None)
        return request.result()

    async def aencode(
        self, texts: Texts = OMITTED, **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """Embed like `encode`, without blocking the running asyncio loop, and without progress bar.

        Uses no additional thread. Cancellation drops the texts that have not been run.
        """
        return (await self.aembed(texts, **options)).vectors

    async def aembed(
        self,
        texts: Texts = OMITTED,
        *,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Embedded:
        """Embed like `aencode`, and return each text's token count with the vectors.

        `overlong` and `truncation_side` replace the Embedder's and the bundle's own for this call.
        """
        request = self._requests.one(
            texts, overlong=overlong, truncation_side=truncation_side, **options
        )
        await self._engine.arun(request.call)
        return request.embedded()

    def encode_query(
        self, texts: Texts = OMITTED, **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """Embed queries: `encode` with the prompt ``query``, or none; never the default prompt."""
        return self.encode(texts, **with_prompt(options, self._requests.prompts.query))

    def encode_document(
        self, texts: Texts = OMITTED, **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """Embed documents: `encode` with the prompt ``document``, ``passage`` or ``corpus``.

        Uses the first of these prompts that the model has, or none; never the default prompt.
        """
        return self.encode(texts, **with_prompt(options, self._requests.prompts.document))

    def embed_stream(
        self,
        texts: Iterable[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        precision: EmbeddingPrecision = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Iterator[NDArray[Any]]:
        """Embed an iterable of any length in bounded memory.

        Reads the texts lazily, at most two blocks ahead of the vectors yielded. The vectors of
        recent texts are cached, in up to 8 MB, so that repeated texts are computed once. The
        keywords are those of `encode`. The precisions ``int8`` and ``uint8`` are not supported,
        because they need the ranges of all vectors: apply `quantize_embeddings` to the blocks, with
        `ranges`.

        Yields
        ------
        array
            The next vectors, in the order of `texts`. Shape: (at most 2,048, dimension).
        """
        requests = self._requests.blocks(
            texts,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            cache=None if self._cached else VectorCache(STREAM_CACHE_BYTES),
        )
        return run_ahead(self._engine, requests)

    def similarity(self, a: ArrayLike, b: ArrayLike) -> FloatArray:
        """Score each row of `a` against each row of `b` by the model's own measure.

        Shape: (n, dimension) and (m, dimension) to (n, m).
        """
        return similarity.similarity(a, b, self._manifest.similarity)

    def similarity_pairwise(self, a: ArrayLike, b: ArrayLike) -> FloatArray:
        """Score each row of `a` against the same row of `b` by the model's own measure.

        Shape: (n, dimension) twice to (n,).
        """
        return similarity.similarity_pairwise(a, b, self._manifest.similarity)

    def semantic_search(
        self, queries: ArrayLike, documents: ArrayLike, *, top_k: int = 10
    ) -> list[list[Hit]]:
        """Rank the documents for each query by the model's own measure, best first."""
        return similarity.semantic_search(
            queries, documents, top_k=top_k, similarity_fn_name=self._manifest.similarity
        )

    def count_tokens(self, texts: Texts) -> Any:
        """Count tokens before truncation, including special tokens.

        Returns an int for one str, otherwise an int64 array of shape (n,). Raises
        TokenizationError.
        """
        with self._engine.core():
            if isinstance(texts, str):
                return self._tokenizer.count(as_text(texts))
            return np.array(
                [self._tokenizer.count(text, index) for index, text in enumerate(as_batch(texts))],
                np.int64,
            )

    def tokenize(self, texts: Texts) -> list[TokenIds]:
        """Return the token ids that `encode` runs for each text, without a prompt or padding.

        Shape: (tokens,) each. Raises TokenizationError.
        """
        with self._engine.core():
            return self._tokenizer.batch_ids([texts] if isinstance(texts, str) else as_batch(texts))

    def stats(self) -> Stats:
        """Return counters of the work done, and the current size of the queue."""
        return self._engine.stats()

    def close(self) -> None:
        """End the worker threads. Calls in progress finish or raise ClosedError."""
        self._engine.close()

    def __reduce__(self) -> tuple[Callable[[], Embedder], tuple[()]]:
        """Pickle the path and the options; unpickling loads the bundle again."""
        return self._load_again, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
