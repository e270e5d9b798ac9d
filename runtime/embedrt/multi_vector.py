"""The `MultiVectorEncoder`: computes a vector for each token of a text (late interaction).

It works like the `Embedder`: a text always gives the same bytes. Queries and documents are
tokenized differently: they have separate maximum lengths, a query may be expanded with tokens whose
vectors count too, and the vectors of some tokens, mostly punctuation, are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Unpack

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.late_interaction import Expansion, LateInteraction, TokenScore
from embedrt.bundle.manifest import ATTENTION_MASK, Side
from embedrt.bundle.reader import Bundle
from embedrt.engine.call import TokenizeTexts
from embedrt.engine.sessions import Convert
from embedrt.loaded import LoadedBundle, LoadOptions
from embedrt.max_sim import TokenVectors, max_sim, max_sim_pairwise
from embedrt.pair import TextKind
from embedrt.request import Embedded, Request, Requests, TaskOptions, for_task, run_ahead
from embedrt.similarity import normalize
from embedrt.spellings import OMITTED, TOKEN_ACCEPTED, TokenSpellings, read_spellings
from embedrt.text.inputs import Texts, as_text
from embedrt.text.tokenizer import TokenIds, Tokenizer
from embedrt.text.truncation import Overlong

FloatArray = NDArray[np.float32]
QUERY: Final = "query"
DOCUMENT: Final = "document"


class TokenOptions(TokenSpellings, TaskOptions, total=False):
    """The keywords of `MultiVectorEncoder.encode`."""

    batch_size: int | None
    show_progress_bar: bool | None
    normalize_embeddings: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToInputs:
    """Tokenizes texts of one kind to inputs of the graph."""

    tokenizer: Tokenizer
    expansion: Expansion | None
    masked: bool
    """Whether the graph has the input ``attention_mask``."""

    def __call__(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text, (tokens,), or (2, tokens) with the mask."""
        return [self._input(ids) for ids in self.tokenizer.batch_ids(texts)]

    def _input(self, ids: TokenIds) -> TokenIds:
        added = 0 if self.expansion is None else max(0, self.expansion.length - len(ids))
        real = len(ids)
        if self.expansion is not None and added:
            ids = np.concatenate([ids, np.full(added, self.expansion.token, np.int64)])
        if not self.masked:
            return ids
        return np.stack([ids, np.arange(len(ids)) < real])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeepTokens:
    """Drops the vectors of skipped tokens, of one or several texts."""

    skipped: NDArray[np.int64]
    """Ids of the skipped tokens."""
    normalized: bool

    def __call__(self, found: NDArray[Any]) -> list[FloatArray] | FloatArray:
        """Return the vectors to keep, (tokens, dimension), of one text, or a list for several.

        `found` are the tokens of one text, of `token_type`, or an object array of such arrays.
        """
        if found.dtype != object:
            return self._keep(found)
        return [self._keep(tokens) for tokens in found]

    def _keep(self, tokens: NDArray[Any]) -> FloatArray:
        if self.skipped.size:
            tokens = tokens[~np.isin(tokens["id"], self.skipped)]
        vectors: FloatArray = np.ascontiguousarray(tokens["vector"])
        return normalize(vectors) if self.normalized else vectors


class MultiVectorEncoder(LoadedBundle):
    """A loaded bundle for late interaction. Thread-safe. Close it after use, or use it in ``with``.

    The result for a text is a float32 array of shape (tokens, dimension).
    """

    _task = "late-interaction"

    def __init__(self, bundle: Bundle, options: LoadOptions | None = None) -> None:
        super().__init__(bundle, options)
        late = self._late
        lengths = {None: self.max_tokens, QUERY: late.query_tokens, DOCUMENT: late.document_tokens}
        tokenizers = {
            most: Tokenizer.of(bundle.tokenizer, self._manifest, max_tokens=most)
            for most in {*lengths.values()} - {self.max_tokens}
        }
        tokenizers[self.max_tokens] = self._tokenizer
        self._inputs = {
            task: self._to_inputs(tokenizers[most], late.expansion if task == QUERY else None)
            for task, most in lengths.items()
        }
        self._requests = {
            task: Requests(
                self._manifest,
                inputs.tokenizer,
                self._options.overlong,
                empty=np.empty(0, token_type(self.dimension)),
                tokenize=partial(self._to_inputs, expansion=inputs.expansion),
            )
            for task, inputs in self._inputs.items()
        }
        self._prompts = self._requests[None].prompts

    @property
    def _late(self) -> LateInteraction:
        late = self._manifest.late_interaction
        assert late is not None  # for the type checker
        return late

    @property
    def dimension(self) -> int:
        """Components of a token's vector."""
        return self._manifest.dimension

    def get_embedding_dimension(self) -> int:
        """Return `dimension`: the name in sentence-transformers."""
        return self.dimension

    @property
    def query_tokens(self) -> int:
        """Number of tokens that a query is truncated to, including special tokens."""
        return self._late.query_tokens

    @property
    def document_tokens(self) -> int:
        """Number of tokens that a document is truncated to, including special tokens."""
        return self._late.document_tokens

    @property
    def similarity_fn_name(self) -> TokenScore:
        """The score that the model was trained for, computed by `similarity`."""
        return self._late.score

    def encode(
        self,
        texts: Texts = OMITTED,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = False,
        *,
        normalize_embeddings: bool = False,
        task: TextKind | None = None,
        **spellings: Unpack[TokenSpellings],
    ) -> Any:
        """Compute vectors of tokens, like sentence-transformers' ``MultiVectorEncoder.encode``.

        Parameters
        ----------
        texts, prompt_name, prompt, batch_size, show_progress_bar
            As in `Embedder.encode`.
        normalize_embeddings
            Whether to normalize each token's vector to length 1.
        task
            ``"query"`` or ``"document"``, set by `encode_query` and `encode_document`. Other texts
            are treated like documents, but truncated to `max_tokens`.
        spellings
            Other keywords of sentence-transformers' method, with values that change nothing.

        Returns
        -------
        list of float32 arrays
            In the order of `texts`, each of shape (tokens, dimension); one array for one str.

        Raises
        ------
        The errors of `Embedder.encode`.
        """
        request = self._request(
            texts,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            normalize_embeddings=normalize_embeddings,
            task=task,
            **spellings,
        )
        self._run(request.call, shown=bool(show_progress_bar))
        return request.result()

    def encode_query(self, texts: Texts = OMITTED, **options: Unpack[TokenOptions]) -> Any:
        """Compute the vectors of queries, with the prompt ``query`` if the model has it."""
        return self.encode(texts, **for_task(options, QUERY, self._prompts))

    def encode_document(self, texts: Texts = OMITTED, **options: Unpack[TokenOptions]) -> Any:
        """Compute the vectors of documents, with the model's prompt for documents, if any."""
        return self.encode(texts, **for_task(options, DOCUMENT, self._prompts))

    async def aencode(self, texts: Texts = OMITTED, **options: Unpack[TokenOptions]) -> Any:
        """Compute like `encode`, without blocking the running asyncio loop."""
        return (await self.aembed(texts, **options)).vectors

    async def aembed(
        self,
        texts: Texts = OMITTED,
        *,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
        **options: Unpack[TokenOptions],
    ) -> Embedded:
        """Compute like `aencode`, and return each text's token count with the vectors.

        `overlong` and `truncation_side` replace the encoder's and the bundle's own for this call.
        """
        request = self._request(
            texts, overlong=overlong, truncation_side=truncation_side, **options
        )
        await self._engine.arun(request.call)
        return request.embedded()

    async def aencode_query(self, texts: Texts = OMITTED, **options: Unpack[TokenOptions]) -> Any:
        """Compute like `encode_query`, without blocking the running asyncio loop."""
        return await self.aencode(texts, **for_task(options, QUERY, self._prompts))

    async def aencode_document(
        self, texts: Texts = OMITTED, **options: Unpack[TokenOptions]
    ) -> Any:
        """Compute like `encode_document`, without blocking the running asyncio loop."""
        return await self.aencode(texts, **for_task(options, DOCUMENT, self._prompts))

    def embed_stream(
        self,
        texts: Iterable[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        normalize_embeddings: bool = False,
        task: TextKind | None = None,
    ) -> Iterator[list[FloatArray]]:
        """Compute the vectors of an iterable of any length in bounded memory.

        Works as `Embedder.embed_stream`, with the keywords of `encode`, and yields the arrays of at
        most 2,048 texts at a time.
        """
        requests = self._of_task(task).for_stream(
            texts,
            self._finish(task, normalize_embeddings),
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            cache=self._stream_cache(),
        )
        return run_ahead(self._engine, requests)

    def similarity(self, queries: TokenVectors, documents: TokenVectors) -> FloatArray:
        """Score each query against each document by the model's own measure.

        Takes what `encode_query` and `encode_document` return. Shape: (queries, documents).
        """
        return max_sim(queries, documents, mean=self._late.score == "meanmaxsim")

    def similarity_pairwise(self, queries: TokenVectors, documents: TokenVectors) -> FloatArray:
        """Score each query against the document in the same place. Shape: (n,)."""
        return max_sim_pairwise(queries, documents, mean=self._late.score == "meanmaxsim")

    def inputs(self, text: str, task: TextKind | None = None) -> TokenIds:
        """Return the token ids of a text of this kind, including those that expand a query.

        Shape: (tokens,).
        """
        self._of_task(task)
        (ids,) = self._inputs[task]([as_text(text)])
        return ids[0] if ids.ndim > 1 else ids

    def _tokenize(self) -> TokenizeTexts:
        return self._to_inputs(self._tokenizer, None)

    def _to_inputs(self, tokenizer: Tokenizer, expansion: Expansion | None) -> ToInputs:
        masked = ATTENTION_MASK in self._manifest.inputs
        return ToInputs(tokenizer=tokenizer, expansion=expansion, masked=masked)

    def _convert(self) -> Convert:
        kind = token_type(self.dimension)

        def convert(vectors: FloatArray, input_ids: NDArray[np.int64]) -> list[NDArray[Any]]:
            ids = input_ids[:, 0] if input_ids.ndim > 2 else input_ids
            tokens = np.empty(ids.shape, kind)
            tokens["id"], tokens["vector"] = ids, vectors
            return [row.copy() for row in tokens]  # one text does not keep the others' memory

        return convert

    def _request(
        self,
        texts: Texts,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,  # noqa: ARG002  # handled by encode
        normalize_embeddings: bool = False,
        task: TextKind | None = None,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
        **spellings: Unpack[TokenSpellings],
    ) -> Request:
        texts = read_spellings(texts, spellings, "encode", TokenSpellings, TOKEN_ACCEPTED)
        return self._of_task(task).for_texts(
            texts,
            self._finish(task, normalize_embeddings),
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            overlong=overlong,
            truncation_side=truncation_side,
        )

    def _finish(self, task: TextKind | None, normalized: bool) -> KeepTokens:
        late = self._late
        skips = (task or DOCUMENT) in late.skipped_in
        skipped = np.array(late.skipped if skips else (), np.int64)
        return KeepTokens(skipped=skipped, normalized=normalized)

    def _of_task(self, task: TextKind | None) -> Requests:
        if task not in self._requests:
            raise ValueError(f"task={task!r}; expected 'query', 'document' or None")
        return self._requests[task]


def token_type(dimension: int) -> np.dtype[Any]:
    """Return the dtype of the tokens of a text: each token's id and vector."""
    return np.dtype([("id", np.int64), ("vector", np.float32, (dimension,))])
