"""The `Reranker`: scores pairs of texts, and ranks documents for a query.

    pairs -> token ids, longest text first truncated -> batches of equal token count -> raw scores
    -> activation -> input order

A pair always gives the same bytes, alone or in any batch, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from embedrt.activations import Activation, activate, choose_activation, softmax
from embedrt.arguments import check_count
from embedrt.bundle.manifest import TOKEN_TYPES, Reranking, ScoreActivation, Side
from embedrt.bundle.reader import Bundle
from embedrt.engine.call import Call, TokenizeTexts
from embedrt.loaded import LoadedBundle, LoadOptions
from embedrt.pair import Pair
from embedrt.spellings import OMITTED, PairSpellings, read_spellings
from embedrt.text.inputs import Pairs, as_batch, as_pairs, as_text
from embedrt.text.pairs import PairTokenizer
from embedrt.text.prompts import Prompts
from embedrt.text.tokenizer import TokenIds
from embedrt.text.truncation import Overlong, Truncations, check_handling

FloatArray = NDArray[np.float32]


class RankOptions(PairSpellings, total=False):
    """The keywords that `Reranker.predict` and `Reranker.rank` have in common."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int | None
    show_progress_bar: bool | None
    activation_fn: object


class ScoreOptions(RankOptions, total=False):
    """The keywords of `Reranker.predict`."""

    apply_softmax: bool | None


class Ranked(TypedDict, total=False):
    """A document, its place among the documents given, and its score."""

    corpus_id: int
    score: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Scores, and the token counts of their pairs."""

    scores: Any
    """As `Reranker.predict` returns them."""
    token_counts: NDArray[np.int32]
    """Tokens of each pair, after truncation and with special tokens. Shape: (pairs,)."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A call of the engine, and the postprocessing of its raw scores."""

    call: Call
    truncations: Truncations
    activation: ScoreActivation | Activation
    softmax: bool
    is_one: bool

    def result(self) -> Any:
        """Return the caller's result after the call is done; warn about truncated pairs."""
        raw = self.call.vectors
        self.truncations.warn(len(raw))
        scores = activate(raw, self.activation)
        if raw.shape[1] == 1:
            scores = scores.reshape(len(raw))
        elif self.softmax:
            scores = softmax(scores.astype(np.float64)).astype(np.float32)
        return scores[0] if self.is_one else scores

    def scored(self) -> Scored:
        """Return `result` with the token counts."""
        return Scored(scores=self.result(), token_counts=self.call.token_counts)


class Reranker(LoadedBundle):
    """A loaded bundle of a cross-encoder. Thread-safe. Close it after use, or use ``with``."""

    _task = "reranking"

    def __init__(self, bundle: Bundle, options: LoadOptions | None = None) -> None:
        super().__init__(bundle, options)
        self._prompts = Prompts.of(self._manifest)

    def _tokenize(self) -> TokenizeTexts:
        typed = TOKEN_TYPES in self._manifest.inputs
        self._pairs = PairTokenizer(self._tokenizer, typed=typed)
        return self._pairs.batch_ids

    @property
    def num_labels(self) -> int:
        """Number of scores of a pair."""
        return self._manifest.dimension

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the scores."""
        return self._own.labels

    @property
    def activation(self) -> ScoreActivation:
        """The default activation of the raw scores, by its name in torch.nn."""
        return self._own.activation

    @property
    def _own(self) -> Reranking:
        found = self._manifest.reranking
        assert found is not None  # the manifest was checked when it was read
        return found

    def predict(
        self,
        pairs: Pairs = OMITTED,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = False,
        activation_fn: object = None,
        apply_softmax: bool | None = False,
        **spellings: Unpack[PairSpellings],
    ) -> Any:
        """Score one or more pairs, like ``CrossEncoder.predict``.

        Parameters
        ----------
        pairs
            One pair of str, or any ordered iterable of pairs.
        prompt_name
            The name of the prompt to prepend to the first text of each pair; by default the
            manifest's default prompt.
        prompt
            A string to prepend, instead of a named prompt.
        batch_size
            Upper limit of the pairs in a batch. It affects memory use and speed, never the result.
        show_progress_bar
            Show progress on stderr.
        activation_fn
            Activation of the raw scores: a name such as ``"Sigmoid"`` or ``"Identity"``, a module
            of torch.nn of that name, or a function of an array of shape (n, labels); by default the
            model's own.
        apply_softmax
            For several labels: apply softmax, so that the scores of each pair sum to 1.
        spellings
            Other keywords of ``CrossEncoder.predict``, with values that change nothing.

        Returns
        -------
        array
            float32. Shape: (n,) in the order of `pairs` for a model of one label, (n, labels) for
            several. For one pair, a float32, or shape (labels,).

        Raises
        ------
        TypeError
            An element of `pairs` is not a pair of str. Raised before any work, with its index.
        ValueError
            An argument is invalid or not supported.
        OverlongTextError
            With ``overlong="error"``, a pair has more than `max_tokens` tokens. Has its index.
        TokenizationError, NonFiniteEmbeddingError, BundleCorruptError
            As from `Embedder.encode`.
        OverloadedError, ClosedError, ForkedError
            As from `Embedder.encode`.
        """
        request = self._request(
            pairs,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            activation_fn=activation_fn,
            apply_softmax=apply_softmax,
            **spellings,
        )
        self._run(request.call, shown=bool(show_progress_bar), unit="pair")
        return request.result()

    async def apredict(self, pairs: Pairs = OMITTED, **options: Unpack[ScoreOptions]) -> Any:
        """Score like `predict`, without blocking the running asyncio loop; shows no progress bar.

        Uses no additional thread. Cancellation drops the pairs that have not been run.
        """
        return (await self.ascore(pairs, **options)).scores

    async def ascore(
        self,
        pairs: Pairs = OMITTED,
        *,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
        **options: Unpack[ScoreOptions],
    ) -> Scored:
        """Score like `apredict`, and return each pair's token count with the scores.

        `overlong` and `truncation_side` replace the Reranker's and the bundle's own for this call.
        """
        request = self._request(
            pairs, overlong=overlong, truncation_side=truncation_side, **options
        )
        await self._engine.arun(request.call)
        return request.scored()

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[RankOptions],
    ) -> list[Ranked]:
        """Rank documents by their scores for a query, best first, like ``CrossEncoder.rank``.

        Parameters
        ----------
        query, documents
            Each document is scored with the query as the first text.
        top_k
            Number of documents to return, at least 1; by default all.
        return_documents
            Whether to return the documents' texts.
        options
            Keywords of `predict`, without `apply_softmax`.

        Returns
        -------
        list
            A dict for each document: its index as ``corpus_id``, its ``score``, and its ``text`` if
            requested. Documents with equal scores keep their order.

        Raises
        ------
        ValueError
            The model has several labels, which define no order.
        """
        check_count("top_k", top_k, 1, "or None for all")
        texts = self._documents(documents)
        scores = self.predict(_with_query(query, texts), **options)
        return _ranked(scores, texts if return_documents else None, top_k)

    async def arank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[RankOptions],
    ) -> list[Ranked]:
        """Rank like `rank`, without blocking the running asyncio loop."""
        check_count("top_k", top_k, 1, "or None for all")
        texts = self._documents(documents)
        scores = await self.apredict(_with_query(query, texts), **options)
        return _ranked(scores, texts if return_documents else None, top_k)

    def raw_scores(self, pairs: Pairs) -> FloatArray:
        """Score pairs without prompt and activation. Shape: (n, labels)."""
        request = self._request(list(pairs), prompt="")
        self._run(request.call)
        scores: FloatArray = request.call.vectors
        return scores

    def tokenize_pairs(self, pairs: Pairs) -> list[TokenIds]:
        """Return the input of the graph for each pair, without a prompt or padding.

        Shape: (tokens,) each, or (2, tokens) with the token types after the ids. Raises
        TokenizationError.
        """
        with self._engine.core():
            return self._pairs.batch_ids(as_pairs(pairs)[0])

    def count_pair_tokens(self, pairs: Pairs) -> Any:
        """Count tokens before truncation, including special tokens.

        Returns an int for one pair, otherwise an int64 array of shape (n,). Raises
        TokenizationError.
        """
        batch, is_one = as_pairs(pairs)
        with self._engine.core():
            counts = [self._tokenizer.count(pair, index) for index, pair in enumerate(batch)]
        return counts[0] if is_one else np.array(counts, np.int64)

    def _documents(self, documents: Iterable[str]) -> list[str]:
        if self.num_labels != 1:
            raise ValueError(
                f"this model has {self.num_labels} labels ({', '.join(self.labels)}), which "
                "define no order; use predict"
            )
        return as_batch(documents, "documents")

    def _request(
        self,
        pairs: Pairs,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,  # noqa: ARG002  # handled by `predict`
        activation_fn: object = None,
        apply_softmax: bool | None = False,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
        **spellings: Unpack[PairSpellings],
    ) -> _Request:
        """Return the request of one call, whose options are validated before the pairs."""
        if activation_fn is None:
            activation_fn = spellings.get("activation_fct")
        pairs = read_spellings(pairs, spellings, "predict", PairSpellings)
        activation = choose_activation(self.activation, activation_fn)
        prefix = self._prompts.choose(prompt_name, prompt)
        check_count("batch_size", batch_size, 1, "or None")
        check_handling(overlong, truncation_side)
        batch, is_one = as_pairs(pairs)
        if overlong is None:
            overlong = self._options.overlong
        truncations = Truncations(self._tokenizer, allowed=overlong != "error")
        side = truncation_side or self._tokenizer.truncation_side
        call = Call(
            texts=[(prefix + first, second) for first, second in batch] if prefix else batch,
            vectors=np.empty((len(batch), self.num_labels), np.float32),
            batch_size=batch_size,
            first_index=None if is_one else 0,
            tokenize=None if side == self._tokenizer.truncation_side else self._from_other_side,
            check=None if overlong == "truncate" else truncations.check,
        )
        return _Request(call, truncations, activation, bool(apply_softmax), is_one)

    def _from_other_side(self, pairs: Sequence[Pair]) -> list[TokenIds]:
        return self._pairs.other_side().batch_ids(pairs)


def _with_query(query: str, documents: list[str]) -> list[Pair]:
    query = as_text(query, name="query")
    return [(query, document) for document in documents]


def _ranked(scores: FloatArray, documents: list[str] | None, top_k: int | None) -> list[Ranked]:
    ranked: list[Ranked] = [
        {"corpus_id": index, "score": score} for index, score in enumerate(scores.tolist())
    ]
    for one, text in zip(ranked, documents or (), strict=False):
        one["text"] = text
    # NaN, which only an activation of the caller's gives, comes last.
    best_first = sorted(
        ranked, key=lambda one: (one["score"] == one["score"], one["score"]), reverse=True
    )
    return best_first[:top_k]
