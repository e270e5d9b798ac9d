"""Requests: calls of `encode` and its variants, validated before any work.

`Requests` creates a `Request` from the texts and options of a call. The engine runs its `call`, and
`Request.result` converts the vectors to the caller's result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, TypedDict, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from embedrt.arguments import check_count
from embedrt.bundle.manifest import Manifest, Side
from embedrt.engine.cache import Known
from embedrt.engine.call import Call, Row, Share, TokenizeTexts
from embedrt.engine.scheduler import Engine
from embedrt.errors import OverloadedError
from embedrt.pair import TextKind
from embedrt.postprocess import EmbeddingPrecision, Finish
from embedrt.spellings import Spellings, read_spellings
from embedrt.text.inputs import Texts, as_batch, as_text, stream
from embedrt.text.pooling_mask import ToPooled
from embedrt.text.prompts import Prompts
from embedrt.text.tokenizer import TokenIds, Tokenizer
from embedrt.text.truncation import Overlong, Truncations, check_handling

STREAM_BLOCK = 2048  # texts per block of a stream


class PromptOptions(TypedDict, total=False):
    """The keywords that choose a prompt."""

    prompt_name: str | None
    prompt: str | None


class TaskOptions(PromptOptions, total=False):
    """The same, for models that compute queries and documents differently."""

    task: TextKind | None


Options = TypeVar("Options", bound=PromptOptions)
OptionsForTask = TypeVar("OptionsForTask", bound=TaskOptions)


class EncodeOptions(Spellings, PromptOptions, total=False):
    """The keywords of `Embedder.encode`."""

    batch_size: int | None
    show_progress_bar: bool | None
    precision: EmbeddingPrecision
    normalize_embeddings: bool
    truncate_dim: int | None


Finisher = Callable[[NDArray[Any]], Any]
"""Converts the results of all texts, or of the only text, to the caller's result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Vectors, and the token counts of their texts."""

    vectors: Any
    """As `encode` returns them."""
    token_counts: NDArray[np.int32]
    """Tokens of each text, after truncation and with special tokens. Shape: (texts,)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call of the engine, and the postprocessing of its vectors."""

    call: Call
    finish: Finisher
    truncations: Truncations
    is_one: bool
    """Whether the caller passed one str."""

    def result(self) -> Any:
        """Return the caller's result after the call is done; warn about truncated texts."""
        vectors = self.call.vectors
        self.truncations.warn(len(vectors))
        return self.finish(vectors[0] if self.is_one else vectors)

    def embedded(self) -> Embedded:
        """Return `result` with the token counts."""
        return Embedded(vectors=self.result(), token_counts=self.call.token_counts)


class Requests:
    """Creates the requests for one model. Options are validated before any text is read.

    Parameters
    ----------
    empty
        The result for a text without tokens, for models whose results differ in size.
    known
        Gives the result for any token ids, so the graph does not run; `tokenizer` then replaces the
        engine's.
    tokenize
        Returns the function that replaces the engine's tokenization, from a tokenizer.
    """

    def __init__(
        self,
        manifest: Manifest,
        tokenizer: Tokenizer,
        overlong: Overlong,
        *,
        empty: Row | None = None,
        known: Known | None = None,
        tokenize: Callable[[Tokenizer], TokenizeTexts] | None = None,
    ) -> None:
        self._with = tokenize or (lambda tokenizer: tokenizer.batch_ids)
        self._replacement = None if tokenize is None and known is None else self._with(tokenizer)
        """Tokenizes in place of the engine; None leaves it to the engine."""
        self.prompts = Prompts.of(manifest)
        self._dimension = manifest.dimension
        self._prompt_endings = manifest.prompt_endings
        self._tokenizer = tokenizer
        self._overlong: Overlong = overlong
        self._empty = empty
        self._known = known

    def for_encode(
        self,
        texts: Texts,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,  # noqa: ARG002  # handled by Embedder.encode
        precision: EmbeddingPrecision = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
        **spellings: Unpack[Spellings],
    ) -> Request:
        """Return the request of one call of `encode` or `aembed`, which have the same keywords."""
        texts = read_spellings(texts, spellings)
        return self.for_texts(
            texts,
            Finish(self._dimension, truncate_dim, normalize_embeddings, precision),
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            overlong=overlong,
            truncation_side=truncation_side,
        )

    def for_texts(
        self,
        texts: Texts,
        finish: Finisher,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
    ) -> Request:
        """Return the request of one call, whose results are postprocessed by `finish`."""
        prefix = self.prompts.choose(prompt_name, prompt)
        check_count("batch_size", batch_size, 1, "or None")
        check_handling(overlong, truncation_side)
        is_one = isinstance(texts, str)
        batch = [as_text(texts)] if is_one else as_batch(texts)
        call, truncations = self._call(
            [prefix + text for text in batch] if prefix else batch,
            prefix,
            batch_size,
            first_index=None if is_one else 0,
            overlong=overlong,
            truncation_side=truncation_side,
        )
        return Request(call, finish, truncations, is_one)

    def for_embed_stream(
        self,
        texts: Texts,
        *,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        precision: EmbeddingPrecision,
        normalize_embeddings: bool,
        truncate_dim: int | None,
        cache: Known | None,
    ) -> Iterator[Request]:
        """Yield requests for successive blocks of a stream, which are scheduled as one call."""
        if precision in ("int8", "uint8"):
            raise ValueError(
                f"precision={precision!r} needs the ranges of all texts; stream float32 and apply "
                "quantize_embeddings(..., ranges=)"
            )
        return self.for_stream(
            texts,
            Finish(self._dimension, truncate_dim, normalize_embeddings, precision),
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            cache=cache,
        )

    def for_stream(
        self,
        texts: Texts,
        finish: Finisher,
        *,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        cache: Known | None,
    ) -> Iterator[Request]:
        """Yield requests for the blocks of a stream, with results postprocessed by `finish`."""
        prefix = self.prompts.choose(prompt_name, prompt)
        check_count("batch_size", batch_size, 1, "or None")
        return self._blocks(stream(texts), prefix, batch_size, finish, cache)

    def _blocks(
        self,
        texts: Iterator[str],
        prefix: str,
        batch_size: int | None,
        finish: Finisher,
        cache: Known | None,
    ) -> Iterator[Request]:
        share = Share()
        for start in count(step=STREAM_BLOCK):
            block = [prefix + text for text in islice(texts, STREAM_BLOCK)]
            if not block:
                return
            call, truncations = self._call(
                block, prefix, batch_size, first_index=start, share=share, cache=cache
            )
            yield Request(call, finish, truncations, is_one=False)

    def _call(
        self,
        texts: Sequence[str],
        prefix: str,
        batch_size: int | None,
        *,
        first_index: int | None,
        share: Share | None = None,
        cache: Known | None = None,
        overlong: Overlong | None = None,
        truncation_side: Side | None = None,
    ) -> tuple[Call, Truncations]:
        if overlong is None:
            overlong = self._overlong
        side = truncation_side or self._tokenizer.truncation_side
        truncations = Truncations(self._tokenizer, allowed=overlong != "error")
        if self._empty is None:
            vectors: NDArray[Any] = np.empty((len(texts), self._dimension), np.float32)
        else:
            vectors = np.empty(len(texts), object)  # of arrays that differ in size
        call = Call(
            texts=texts,
            vectors=vectors,
            empty=0.0 if self._empty is None else self._empty,
            batch_size=batch_size,
            first_index=first_index,
            share=share or Share(),
            cache=cache if self._known is None else self._known,
            tokenize=self._tokenize(prefix, side),
            check=None if overlong == "truncate" else truncations.check,
        )
        return call, truncations

    def _tokenize(self, prefix: str, side: Side) -> TokenizeTexts | None:
        """Return the function that tokenizes the texts of a call; None for the engine's own."""
        own_side = side == self._tokenizer.truncation_side
        if self._prompt_endings is not None and (prefix or not own_side):
            tokenize = self._tokenizer.batch_ids if own_side else self._from_other_side
            return ToPooled(tokenize, prefix, self._prompt_endings)
        return self._replacement if own_side else self._from_other_side

    def _from_other_side(self, texts: Sequence[str]) -> list[TokenIds]:
        return self._with(self._tokenizer.other_side())(texts)


def run_ahead(engine: Engine, requests: Iterator[Request]) -> Iterator[Any]:
    """Start each request before waiting for the previous one, to keep the workers busy."""
    started: deque[Request] = deque()

    def first_result() -> Any:
        engine.wait(started[0].call)
        return started.popleft().result()

    try:
        for request in requests:
            started.append(request)
            try:
                engine.start(request.call)
            except OverloadedError:
                if len(started) == 1:
                    raise
                # The stream's previous block alone may fill the queue.
                yield first_result()
                engine.start(request.call)
            if len(started) > 1:
                yield first_result()
        while started:
            yield first_result()
    finally:  # also if the consumer stops early, or the iterable of texts raises
        for request in started:
            engine.cancel(request.call)


def with_prompt(options: Options, name: str) -> Options:
    """Return the options with the prompt of this name, unless they already choose a prompt."""
    chosen = options.get("prompt") is not None or options.get("prompt_name") is not None
    if chosen:
        return options
    named = options.copy()
    named["prompt_name"] = name
    return named


def for_task(options: OptionsForTask, task: TextKind, prompts: Prompts) -> OptionsForTask:
    """Return the options with the task, and with the task's prompt unless they choose one."""
    named = with_prompt(options, prompts.query if task == "query" else prompts.document).copy()
    named["task"] = task
    return named
