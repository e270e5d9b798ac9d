"""Texts to vectors.

    tokenize -> batches of equal token count -> run on workers, one core each -> input order

The same text gives the same bytes, alone or in any batch, whatever the number of workers. That is
why texts of different callers may share a batch, and why equal texts are computed once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedrt import similarity
from embedrt.bundle.graph_rules import check_graph
from embedrt.bundle.manifest import Manifest
from embedrt.bundle.reader import Bundle, Verify
from embedrt.engine.cache import VectorCache
from embedrt.engine.call import Call, Share
from embedrt.engine.cpu import available_threads
from embedrt.engine.scheduler import Engine, Stats
from embedrt.errors import BundleCorruptError
from embedrt.postprocess import EmbeddingPrecision, Finish
from embedrt.progress import progress_bar
from embedrt.similarity import Hit
from embedrt.spellings import OMITTED, Spellings, read_spellings
from embedrt.text.inputs import Texts, as_batch, as_text, stream
from embedrt.text.tokenizer import Tokenizer
from embedrt.text.truncation import Overlong, Truncations

FloatArray = NDArray[np.float32]

MEGABYTE = 1_000_000
STREAM_BLOCK = 2048  # texts that `embed_stream` takes and yields at once
STREAM_CACHE_BYTES = 8 * MEGABYTE  # for texts that come again within one stream


class EncodeOptions(Spellings, total=False):
    """The keywords of `Embedder.encode`."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int | None
    show_progress_bar: bool | None
    precision: EmbeddingPrecision
    normalize_embeddings: bool
    truncate_dim: int | None


@dataclass(frozen=True, slots=True)
class Request:
    """A call of `encode`, and what is done with its vectors."""

    call: Call
    finish: Finish
    truncations: Truncations
    is_one: bool
    """Whether the caller gave one str."""

    def result(self) -> NDArray[Any]:
        """Return what the caller gets, once the call is done; warn of texts that were cut."""
        vectors = self.call.vectors
        self.truncations.warn(len(vectors))
        return self.finish(vectors[0] if self.is_one else vectors)


class Embedder:
    """A loaded bundle. Safe to use from many threads; close it, or use it in a ``with`` block."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        overlong: Overlong = "truncate",
        cache_mb: float = 0,
        max_waiting_tokens: int | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads={threads}; expected at least 1, or None for all there are")
        if not cache_mb >= 0:
            raise ValueError(f"cache_mb={cache_mb}; expected at least 0")
        if max_waiting_tokens is not None and max_waiting_tokens < 1:
            raise ValueError(
                f"max_waiting_tokens={max_waiting_tokens}; expected at least 1, or None"
            )
        if overlong not in get_args(Overlong):
            raise ValueError(f"overlong={overlong!r}; expected one of {list(get_args(Overlong))}")
        check_graph(bundle.graph)
        self._manifest = bundle.manifest
        self._overlong = overlong
        self._tokenizer = Tokenizer(
            bundle.tokenizer,
            max_tokens=bundle.manifest.max_tokens,
            truncation_side=bundle.manifest.truncation_side,
        )
        self._engine = Engine(
            bundle.graph,
            bundle.manifest.precision,
            threads or available_threads(),
            self._tokenizer.batch_ids,
            max_tokens=self.max_tokens,
            cache_bytes=int(cache_mb * MEGABYTE),
            max_waiting_tokens=max_waiting_tokens,
        )
        self._cached = cache_mb > 0
        if self._engine.dimension not in (None, self.dimension):
            raise BundleCorruptError(
                f"{bundle.path}: the graph gives {self._engine.dimension} components and the "
                f"manifest says {self.dimension}; copy or export the bundle again"
            )
        self._load_again = partial(
            type(self).load,
            bundle.path.absolute(),
            threads=threads,
            overlong=overlong,
            cache_mb=cache_mb,
            max_waiting_tokens=max_waiting_tokens,
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threads: int | None = None,
        overlong: Overlong = "truncate",
        cache_mb: float = 0,
        max_waiting_tokens: int | None = None,
        verify: Verify = "size",
    ) -> Self:
        """Load a bundle.

        Parameters
        ----------
        path
            The bundle's folder.
        threads
            Cores to use; by default those that the affinity mask and the CPU quota leave us.
        overlong
            What happens to a text of more than `max_tokens` tokens: ``"truncate"`` it as
            sentence-transformers does; do so and ``"warn"``; or ``"error"``, an OverlongTextError.
        cache_mb
            Megabytes for the vectors of the texts that were embedded last. The cache is exact: it
            gives the bytes that would be computed.
        max_waiting_tokens
            Refuse a call with OverloadedError where it would make more tokens wait; by default all
            calls are queued. A call to an idle Embedder is never refused.
        verify
            ``"size"`` checks the sizes of the bundle's files, ``"sha256"`` every byte of them.

        Raises
        ------
        BundleError
            Nothing there, an unknown format, or files that are not those of the manifest.
        """
        return cls(
            Bundle.open(path, verify=verify),
            threads=threads,
            overlong=overlong,
            cache_mb=cache_mb,
            max_waiting_tokens=max_waiting_tokens,
        )

    @property
    def manifest(self) -> Manifest:
        """Everything that is known about the model."""
        return self._manifest

    @property
    def dimension(self) -> int:
        """Components of an embedding."""
        return self._manifest.dimension

    @property
    def max_tokens(self) -> int:
        """Tokens that a text is truncated to, special tokens included."""
        return self._manifest.max_tokens

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
        """Embed one text or many, as ``SentenceTransformer.encode`` does.

        Parameters
        ----------
        texts
            One str, or any ordered iterable of str: list, tuple, generator, pandas Series, numpy or
            pyarrow string array.
        prompt_name
            Which of the manifest's prompts to put before each text; by default its default prompt.
        prompt
            A text to put before each text, instead of a named one.
        batch_size
            Run at most so many texts together. A hint: it changes memory and speed, never a result.
        show_progress_bar
            Show progress on stderr.
        precision
            ``float32``, ``float16``, ``int8``, ``uint8``, ``binary`` or ``ubinary``: see
            `quantize_embeddings`, also for why ``int8`` and ``uint8`` depend on the whole call.
        normalize_embeddings
            Scale each vector to length 1, after `truncate_dim`.
        truncate_dim
            Keep only so many leading components, for models trained for it.
        spellings
            Other keywords of ``SentenceTransformer.encode``, where they change nothing.

        Returns
        -------
        array
            Shape: (n, dimension) in the order of `texts`; (dimension,) for one str. float32 unless
            `precision` says otherwise.

        Raises
        ------
        TypeError
            A text that is no str, named by its index, before any work.
        ValueError
            An argument that cannot be honored.
        OverlongTextError
            A text beyond `max_tokens`, with ``overlong="error"``, named by its index.
        TokenizationError
            A text that breaks the tokenizer, named by its index; the next call works.
        OverloadedError
            More tokens would wait than `max_waiting_tokens` allows; nothing was queued.
        ClosedError, ForkedError
            After `close`; in a process that was forked while this Embedder ran.
        """
        request = self._request(
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
        """Embed like `encode`, without a progress bar, while an asyncio loop goes on.

        Takes no thread of its own; cancelling it drops those of its texts that wait.
        """
        request = self._request(texts, **options)
        await self._engine.arun(request.call)
        return request.result()

    def encode_query(
        self, texts: Texts = OMITTED, **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """Embed queries: `encode` with the prompt named ``query``, where the model has one."""
        return self.encode(texts, **self._with_prompt(options, ("query",)))

    def encode_document(
        self, texts: Texts = OMITTED, **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """Embed documents: `encode` with the prompt ``document``, ``passage`` or ``corpus``."""
        return self.encode(texts, **self._with_prompt(options, ("document", "passage", "corpus")))

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
        """Embed any iterable, however long, in bounded memory.

        Takes the texts as it needs them, two blocks ahead of what it has yielded. Texts that come
        again are computed once, as long as 8 MB of vectors hold them. The keywords are
        those of `encode`, without precisions ``int8`` and ``uint8``: their ranges are those of all
        the texts; apply `quantize_embeddings` with ranges of your own.

        Yields
        ------
        array
            The next vectors in the order of `texts`. Shape: (at most 2,048, dimension).
        """
        if precision in ("int8", "uint8"):
            raise ValueError(
                f"precision={precision!r} needs the ranges of all texts; stream float32 and apply "
                "quantize_embeddings(..., ranges=)"
            )
        finish = Finish(self.dimension, truncate_dim, normalize_embeddings, precision)
        prefix = self._prefix(prompt_name, prompt)
        _check_batch_size(batch_size)
        return self._stream(stream(texts), prefix, batch_size, finish)

    def similarity(self, a: ArrayLike, b: ArrayLike) -> FloatArray:
        """Score each row of `a` with each of `b` by the model's own measure.

        Shape: (n, dimension) and (m, dimension) to (n, m).
        """
        return similarity.similarity(a, b, self._manifest.similarity)

    def similarity_pairwise(self, a: ArrayLike, b: ArrayLike) -> FloatArray:
        """Score each row of `a` with the same row of `b` by the model's own measure.

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
        """Count tokens before truncation, special tokens included.

        Returns an int for one str, else int64 of shape (n,). Raises TokenizationError.
        """
        with self._engine.core():
            if isinstance(texts, str):
                return self._tokenizer.count(as_text(texts))
            return np.array(
                [self._tokenizer.count(text, index) for index, text in enumerate(as_batch(texts))],
                np.int64,
            )

    def stats(self) -> Stats:
        """Return counts of what has been embedded, and of what waits now."""
        return self._engine.stats()

    def close(self) -> None:
        """Let the worker threads end. What is being encoded is finished or raises ClosedError."""
        self._engine.close()

    def __reduce__(self) -> tuple[Callable[[], Embedder], tuple[()]]:
        """Pickle as path and options: the other side loads the bundle itself."""
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

    def _request(
        self,
        texts: Texts,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        precision: EmbeddingPrecision = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        show_progress_bar: bool | None = None,  # noqa: ARG002  # the caller's business
        **spellings: Unpack[Spellings],
    ) -> Request:
        """Check everything that a caller of `encode` passes, options first."""
        texts = read_spellings(texts, spellings)
        finish = Finish(self.dimension, truncate_dim, normalize_embeddings, precision)
        prefix = self._prefix(prompt_name, prompt)
        _check_batch_size(batch_size)
        is_one = isinstance(texts, str)
        batch = [as_text(texts)] if is_one else as_batch(texts)
        call, truncations = self._call(
            [prefix + text for text in batch] if prefix else batch,
            batch_size,
            first_index=None if is_one else 0,
        )
        return Request(call, finish, truncations, is_one)

    def _call(
        self,
        texts: Sequence[str],
        batch_size: int | None,
        *,
        first_index: int | None,
        share: Share | None = None,
        cache: VectorCache | None = None,
    ) -> tuple[Call, Truncations]:
        truncations = Truncations(self._tokenizer, allowed=self._overlong != "error")
        call = Call(
            texts=texts,
            vectors=np.empty((len(texts), self.dimension), np.float32),
            batch_size=batch_size,
            first_index=first_index,
            share=share or Share(),
            cache=cache,
            check=None if self._overlong == "truncate" else truncations.look,
        )
        return call, truncations

    def _stream(
        self, texts: Iterator[str], prefix: str, batch_size: int | None, finish: Finish
    ) -> Iterator[NDArray[Any]]:
        """Keep one block ahead of the one that is waited for, so that the workers never wait."""
        share = Share()
        cache = None if self._cached else VectorCache(STREAM_CACHE_BYTES)
        started: deque[Request] = deque()
        try:
            for start in count(step=STREAM_BLOCK):
                block = [prefix + text for text in islice(texts, STREAM_BLOCK)]
                if block:
                    call, truncations = self._call(
                        block, batch_size, first_index=start, share=share, cache=cache
                    )
                    started.append(Request(call, finish, truncations, is_one=False))
                    self._engine.start(call)
                if not started:
                    return
                if len(started) > 1 or not block:
                    self._engine.wait(started[0].call)
                    yield started.popleft().result()
        finally:  # also where the consumer stops early, or the texts fail
            for request in started:
                self._engine.cancel(request.call)

    def _prefix(self, prompt_name: str | None, prompt: str | None) -> str:
        if prompt is not None:
            if prompt_name is not None:
                raise ValueError("pass prompt or prompt_name, not both")
            return as_text(prompt)
        name = prompt_name if prompt_name is not None else self._manifest.default_prompt_name
        if name is None:
            return ""
        if name not in self._manifest.prompts:
            raise ValueError(
                f"prompt_name={name!r}; this model has {sorted(self._manifest.prompts) or 'none'}"
            )
        return as_text(self._manifest.prompts[name])

    def _with_prompt(self, options: EncodeOptions, names: tuple[str, ...]) -> EncodeOptions:
        """Add the first of these prompts that the model has, unless the caller chose one."""
        name = next((name for name in names if name in self._manifest.prompts), None)
        chosen = options.get("prompt") is not None or options.get("prompt_name") is not None
        if name is None or chosen:
            return options
        return {**options, "prompt_name": name}


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected at least 1, or None")
