"""The `Embedder`: computes embeddings of texts.

    Requests   checks options and texts, prepends the prompt           request.py, text/
    Engine     queues, tokenizes, batches and runs texts of all calls  engine/
    Request    restores the order, truncates, normalizes, quantizes    request.py, postprocess.py

`encode` is these three steps. `LoadedBundle` (loaded.py) creates the tokenizer and the engine.

A text always gives the same bytes, alone or in any batch, with any number of workers. Texts of
different callers can therefore share a batch, and equal texts are computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedrt import similarity
from embedrt.bundle.manifest import Side
from embedrt.bundle.reader import Bundle
from embedrt.engine.call import TokenizeTexts
from embedrt.loaded import LoadOptions, VectorBundle
from embedrt.postprocess import EmbeddingPrecision
from embedrt.request import Embedded, EncodeOptions, Requests, run_ahead, with_prompt
from embedrt.similarity import Hit
from embedrt.spellings import OMITTED, Spellings
from embedrt.text.inputs import Texts
from embedrt.text.pooling_mask import ToPooled
from embedrt.text.truncation import Overlong

FloatArray = NDArray[np.float32]


class Embedder(VectorBundle):
    """A loaded bundle of an embedding model. Thread-safe.

    ``Embedder.load(path)`` loads a bundle. Close it after use, or use it in a ``with`` block.
    """

    _task = "embedding"

    def __init__(self, bundle: Bundle, options: LoadOptions | None = None) -> None:
        super().__init__(bundle, options)
        self._requests = Requests(self._manifest, self._tokenizer, self._options.overlong)

    def _tokenize(self) -> TokenizeTexts:
        tokenize, endings = super()._tokenize(), self._manifest.prompt_endings
        # With endings, the graph has a second input: the mask of the tokens that are pooled.
        return tokenize if endings is None else ToPooled(tokenize, "", endings)

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
        NonFiniteEmbeddingError, BundleCorruptError
            The graph gives NaN or infinity, or fails: the bundle is broken.
        OverloadedError
            The call would exceed `max_waiting_tokens`; nothing is queued.
        ClosedError
            The Embedder is closed.
        ForkedError
            The process was forked while the Embedder was running.
        """
        request = self._requests.for_encode(
            texts,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            **spellings,
        )
        self._run(request.call, shown=bool(show_progress_bar))
        vectors: NDArray[Any] = request.result()
        return vectors

    def embed(self, texts: Texts = OMITTED, **options: Unpack[EncodeOptions]) -> Embedded:
        """Embed like `encode`, and return each text's token count with the vectors."""
        request = self._requests.for_encode(texts, **options)
        self._run(request.call, shown=bool(options.get("show_progress_bar")))
        return request.embedded()

    async def aencode(
        self, texts: Texts = OMITTED, **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """Embed like `encode`, without blocking the running asyncio loop, and without progress bar.

        Uses no additional thread. Cancellation drops the texts that have not been run.
        """
        vectors: NDArray[Any] = (await self.aembed(texts, **options)).vectors
        return vectors

    async def aembed(
        self,
        texts: Texts = OMITTED,
        *,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Embedded:
        """Embed like `embed`, without blocking the running asyncio loop.

        `overlong` and `truncation_side` replace the Embedder's and the bundle's own for this call.
        """
        request = self._requests.for_encode(
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
        requests = self._requests.for_embed_stream(
            texts,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            cache=self._stream_cache(),
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
        """Rank the documents for each query by the model's own measure, best first.

        Takes and returns what `embedrt.semantic_search` does.
        """
        return similarity.semantic_search(
            queries, documents, top_k=top_k, similarity_fn_name=self._manifest.similarity
        )
