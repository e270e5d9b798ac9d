"""The `SparseEncoder`: computes sparse rows of texts, a weight for each word of the vocabulary.

It works like the `Embedder`: a text always gives the same bytes. The graph computes the weights of
the whole vocabulary; after each batch, only the nonzero weights are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from embedrt import sparse_rows
from embedrt.arguments import check_count
from embedrt.bundle.manifest import Side
from embedrt.bundle.reader import Bundle
from embedrt.engine.sessions import Convert
from embedrt.loaded import LoadOptions, VectorBundle
from embedrt.pair import TextKind
from embedrt.query_table import QueryTable
from embedrt.request import Embedded, Request, Requests, TaskOptions, for_task, run_ahead
from embedrt.sparse_rows import NO_TERMS, SparseRow, SparseRows, Terms, as_rows, largest, terms_of
from embedrt.spellings import OMITTED, SPARSE_ACCEPTED, SparseSpellings, read_spellings
from embedrt.text.inputs import Texts
from embedrt.text.tokenizer import Tokenizer
from embedrt.text.truncation import Overlong

# Weights that the graph computes in a batch: 4 MB, and several times that internally. For short
# texts, the memory depends on the vocabulary, not on the tokens.
MOST_WEIGHTS = 1 << 20

FloatArray = NDArray[np.float32]
Decoded = list[tuple[str, float]]


class SparseOptions(SparseSpellings, TaskOptions, total=False):
    """The keywords of `SparseEncoder.encode`."""

    batch_size: int | None
    show_progress_bar: bool | None
    max_active_dims: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsify:
    """Converts the terms of one or several texts to sparse rows."""

    dimension: int
    most: int | None

    def __call__(self, found: NDArray[Any]) -> SparseRows | SparseRow:
        """Return the rows of an array of terms by text, or the row of the terms of one."""
        one = found.dtype != object
        texts: list[Terms] = [found] if one else list(found)
        if self.most is not None:
            texts = [largest(terms, self.most) for terms in texts]
        rows = SparseRows.of(texts, self.dimension)
        return rows[0] if one else rows


class SparseEncoder(VectorBundle):
    """A loaded bundle for sparse rows. Thread-safe. Close it after use, or use it in ``with``."""

    _task = "sparse"

    def __init__(self, bundle: Bundle, options: LoadOptions | None = None) -> None:
        super().__init__(bundle, options)
        manifest, overlong = self._manifest, self._options.overlong
        assert manifest.sparse is not None  # for the type checker
        self._sparsity = manifest.sparse
        self._documents = Requests(manifest, self._tokenizer, overlong, empty=NO_TERMS)
        self._queries = self._documents
        if (queries := self._sparsity.queries) is not None:
            tokenizer = Tokenizer.of(
                bundle.tokenizer, manifest, max_tokens=queries.max_tokens, add_special_tokens=False
            )
            table = QueryTable.of(bundle, tokenizer)
            self._queries = Requests(manifest, tokenizer, overlong, empty=NO_TERMS, known=table)

    def _convert(self) -> Convert:
        return lambda weights, _: terms_of(weights)

    @property
    def max_active_dims(self) -> int | None:
        """Number of active dimensions that a row keeps by default; None for all."""
        return self._sparsity.max_active_dims

    def encode(
        self,
        texts: Texts = OMITTED,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = False,
        *,
        max_active_dims: int | None = None,
        task: TextKind | None = None,
        **spellings: Unpack[SparseSpellings],
    ) -> Any:
        """Compute sparse rows, like sentence-transformers' ``SparseEncoder.encode``.

        Parameters
        ----------
        texts
            As in `Embedder.encode`.
        prompt_name, prompt, batch_size, show_progress_bar
            As in `Embedder.encode`.
        max_active_dims
            Number of active dimensions to keep in each row, those of the largest magnitude; of
            equal ones, those that come first. By default the model's own, see the property.
        task
            ``"query"`` or ``"document"``, for models that compute the two differently. By default
            the model's own choice; `encode_query` and `encode_document` set it.
        spellings
            Other keywords of sentence-transformers' method, with values that change nothing.

        Returns
        -------
        SparseRows
            In the order of `texts`; a `SparseRow` for one str.

        Raises
        ------
        The errors of `Embedder.encode`.
        """
        request = self._request(
            texts,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            max_active_dims=max_active_dims,
            task=task,
            **spellings,
        )
        self._run(request.call, shown=bool(show_progress_bar))
        return request.result()

    def embed(self, texts: Texts = OMITTED, **options: Unpack[SparseOptions]) -> Embedded:
        """Compute like `encode`, and return each text's token count with the rows."""
        request = self._request(texts, **options)
        self._run(request.call, shown=bool(options.get("show_progress_bar")))
        return request.embedded()

    def encode_query(self, texts: Texts = OMITTED, **options: Unpack[SparseOptions]) -> Any:
        """Compute the rows of queries, with the prompt ``query`` if the model has it."""
        return self.encode(texts, **for_task(options, "query", self._documents.prompts))

    def encode_document(self, texts: Texts = OMITTED, **options: Unpack[SparseOptions]) -> Any:
        """Compute the rows of documents, with the model's prompt for documents, if any."""
        return self.encode(texts, **for_task(options, "document", self._documents.prompts))

    async def aencode(self, texts: Texts = OMITTED, **options: Unpack[SparseOptions]) -> Any:
        """Compute like `encode`, without blocking the running asyncio loop."""
        return (await self.aembed(texts, **options)).vectors

    async def aencode_query(self, texts: Texts = OMITTED, **options: Unpack[SparseOptions]) -> Any:
        """Compute like `encode_query`, without blocking the running asyncio loop."""
        return await self.aencode(texts, **for_task(options, "query", self._documents.prompts))

    async def aencode_document(
        self, texts: Texts = OMITTED, **options: Unpack[SparseOptions]
    ) -> Any:
        """Compute like `encode_document`, without blocking the running asyncio loop."""
        return await self.aencode(texts, **for_task(options, "document", self._documents.prompts))

    async def aembed(
        self,
        texts: Texts = OMITTED,
        *,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
        **options: Unpack[SparseOptions],
    ) -> Embedded:
        """Compute like `embed`, without blocking the running asyncio loop.

        `overlong` and `truncation_side` replace the encoder's and the bundle's own for this call.
        """
        request = self._request(
            texts, overlong=overlong, truncation_side=truncation_side, **options
        )
        await self._engine.arun(request.call)
        return request.embedded()

    def embed_stream(
        self,
        texts: Iterable[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        max_active_dims: int | None = None,
        task: TextKind | None = None,
    ) -> Iterator[SparseRows]:
        """Compute the rows of an iterable of any length in bounded memory.

        Works as `Embedder.embed_stream`, with the keywords of `encode`, and yields the rows of at
        most 2,048 texts at a time.
        """
        requests = self._requests(task).for_stream(
            texts,
            self._finish(max_active_dims),
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=self._bounded(batch_size),
            cache=self._stream_cache(),
        )
        return run_ahead(self._engine, requests)

    def similarity(self, a: SparseRows | SparseRow, b: SparseRows | SparseRow) -> FloatArray:
        """Score each row of `a` against each row of `b` by the model's own measure.

        Shape: (n, dimension) and (m, dimension) to (n, m).
        """
        return sparse_rows.similarity(a, b, self._manifest.similarity)

    def similarity_pairwise(
        self, a: SparseRows | SparseRow, b: SparseRows | SparseRow
    ) -> FloatArray:
        """Score each row of `a` against the same row of `b` by the model's own measure.

        Shape: (n, dimension) twice to (n,).
        """
        return sparse_rows.similarity_pairwise(a, b, self._manifest.similarity)

    @overload
    def decode(self, rows: SparseRow, top_k: int | None = None) -> Decoded: ...
    @overload
    def decode(self, rows: SparseRows, top_k: int | None = None) -> list[Decoded]: ...
    def decode(
        self, rows: SparseRows | SparseRow, top_k: int | None = None
    ) -> Decoded | list[Decoded]:
        """Return the tokens of a row with their weights, largest first; a list of them for rows.

        `top_k` is the number of tokens to return; all by default.
        """
        check_count("top_k", top_k, 1, "or None for all")
        decoded = [self._decode(row, top_k) for row in as_rows(rows)]
        return decoded[0] if isinstance(rows, SparseRow) else decoded

    def _decode(self, row: SparseRow, top_k: int | None) -> Decoded:
        order = np.argsort(-row.values, kind="stable")[:top_k]
        tokens = map(self._tokenizer.token, row.indices[order].tolist())
        return list(zip(tokens, row.values[order].tolist(), strict=True))

    def _request(
        self,
        texts: Texts,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,  # noqa: ARG002  # handled by encode
        max_active_dims: int | None = None,
        task: TextKind | None = None,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
        **spellings: Unpack[SparseSpellings],
    ) -> Request:
        texts = read_spellings(texts, spellings, "encode", SparseSpellings, SPARSE_ACCEPTED)
        return self._requests(task).for_texts(
            texts,
            self._finish(max_active_dims),
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=self._bounded(batch_size),
            overlong=overlong,
            truncation_side=truncation_side,
        )

    def _finish(self, max_active_dims: int | None) -> Sparsify:
        check_count("max_active_dims", max_active_dims, 1, "or None")
        most = self.max_active_dims if max_active_dims is None else max_active_dims
        return Sparsify(dimension=self.dimension, most=most)

    def _bounded(self, batch_size: int | None) -> int:
        """Return the upper limit of the texts in a batch."""
        check_count("batch_size", batch_size, 1, "or None")
        most = max(1, MOST_WEIGHTS // self.dimension)
        return most if batch_size is None else min(batch_size, most)

    def _requests(self, task: TextKind | None) -> Requests:
        if task not in ("query", "document", None):
            raise ValueError(f"task={task!r}; expected 'query', 'document' or None")
        queries = self._sparsity.queries
        if task is None and queries is not None and queries.by_default:
            task = "query"
        return self._queries if task == "query" else self._documents
