"""Texts to vectors.

    tokenize -> batches of equal token count -> run on workers, one core each -> input order

The same text gives the same bytes, alone or in any batch, whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedrt import similarity
from embedrt.bundle.graph_rules import check_graph
from embedrt.bundle.manifest import Manifest
from embedrt.bundle.reader import Bundle, Verify
from embedrt.engine.cpu import available_threads
from embedrt.engine.scheduler import (
    TOKENS_PER_BATCH,
    WINDOW,
    Engine,
    Window,
    chunks,
    one_ahead,
    plan_batches,
)
from embedrt.errors import BundleCorruptError, TextError
from embedrt.postprocess import EmbeddingPrecision, Finish
from embedrt.progress import progress_bar
from embedrt.similarity import Hit
from embedrt.text.inputs import Texts, as_batch, as_text, stream
from embedrt.text.prompts import Prompts
from embedrt.text.tokenizer import TokenIds, Tokenizer
from embedrt.text.truncation import Overlong, report_overlong

FloatArray = NDArray[np.float32]

# Below this, splitting a batch over the workers costs more than it gains.
TOKENS_WORTH_A_WORKER = 128


class EncodeOptions(TypedDict, total=False):
    """The keywords of `Embedder.encode`."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int | None
    show_progress_bar: bool
    precision: EmbeddingPrecision
    normalize_embeddings: bool
    truncate_dim: int | None


class Embedder:
    """A loaded bundle. Safe to use from many threads; close it, or use it in a ``with`` block."""

    def __init__(
        self, bundle: Bundle, *, threads: int | None = None, overlong: Overlong = "truncate"
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads={threads}; expected at least 1, or None for all there are")
        if overlong not in get_args(Overlong):
            raise ValueError(f"overlong={overlong!r}; expected one of {list(get_args(Overlong))}")
        check_graph(bundle.graph)
        self._manifest = bundle.manifest
        self._prompts = Prompts.of(bundle.manifest)
        self._overlong = overlong
        self._tokenizer = Tokenizer(
            bundle.tokenizer,
            max_tokens=bundle.manifest.max_tokens,
            truncation_side=bundle.manifest.truncation_side,
        )
        self._engine = Engine(
            bundle.graph, bundle.manifest.precision, threads or available_threads()
        )
        if self._engine.dimension not in (None, self.dimension):
            raise BundleCorruptError(
                f"{bundle.path}: the graph gives {self._engine.dimension} components and the "
                f"manifest says {self.dimension}; copy or export the bundle again"
            )
        self._load_again = partial(
            type(self).load, bundle.path.absolute(), threads=threads, overlong=overlong
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threads: int | None = None,
        overlong: Overlong = "truncate",
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
        verify
            ``"size"`` checks the sizes of the bundle's files, ``"sha256"`` every byte of them.

        Raises
        ------
        BundleError
            Nothing there, an unknown format, or files that are not those of the manifest.
        """
        return cls(Bundle.open(path, verify=verify), threads=threads, overlong=overlong)

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
        texts: Texts,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        precision: EmbeddingPrecision = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> NDArray[Any]:
        """Embed one text or many, as ``SentenceTransformer.encode`` does.

        Parameters
        ----------
        texts
            One str, or any ordered iterable of str: list, tuple, generator, pandas Series, numpy or
            pyarrow string array.
        prompt_name
            Which of the manifest's prompts to put before each text; by default its default prompt.
            ``query`` and ``document`` are empty where the manifest does not have them.
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
        ClosedError, ForkedError
            After `close`; in a process that was forked while this Embedder ran.
        """
        finish = Finish(self.dimension, truncate_dim, normalize_embeddings, precision)
        prefix = self._prompts.choose(prompt_name, prompt)
        _check_batch_size(batch_size)
        if isinstance(texts, str):
            vectors = np.empty((1, self.dimension), np.float32)
            self._start([prefix + as_text(texts)], vectors, batch_size, [None])
            return finish(vectors[0])
        batch = [prefix + text for text in as_batch(texts)]
        first_rows: dict[str, int] = {}
        for row, text in enumerate(batch):
            first_rows.setdefault(text, row)
        once, rows = list(first_rows), list(first_rows.values())
        vectors = np.empty((len(once), self.dimension), np.float32)
        windows = (
            self._start(once[part], vectors[part], batch_size, rows[part])
            for part in (slice(at, at + WINDOW) for at in range(0, len(once), WINDOW))
        )
        with progress_bar(len(once), shown=show_progress_bar) as advance:
            for window in one_ahead(windows):
                for finished in window.results():
                    advance(finished)
        if len(once) < len(batch):
            place = {text: row for row, text in enumerate(once)}
            vectors = vectors[[place[text] for text in batch]]
        return finish(vectors)

    async def aencode(self, texts: Texts, **options: Unpack[EncodeOptions]) -> NDArray[Any]:
        """Embed like `encode`, in a thread, so that an asyncio loop goes on meanwhile."""
        import asyncio  # noqa: PLC0415  # slow to import, and whoever awaits this has it

        return await asyncio.to_thread(self.encode, texts, **options)

    def encode_query(self, texts: Texts, **options: Unpack[EncodeOptions]) -> NDArray[Any]:
        """Embed queries: `encode` with the prompt ``query``, or none; never with the default."""
        return self.encode(texts, **_with_prompt(options, self._prompts.query))

    def encode_document(self, texts: Texts, **options: Unpack[EncodeOptions]) -> NDArray[Any]:
        """Embed documents: `encode` with the prompt ``document``, ``passage`` or ``corpus``.

        It uses the first of these that the model has, or none; never the default.
        """
        return self.encode(texts, **_with_prompt(options, self._prompts.document))

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

        Takes the texts as it needs them, two blocks ahead of what it has yielded. The keywords are
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
        prefix = self._prompts.choose(prompt_name, prompt)
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
        if isinstance(texts, str):
            return self._tokenizer.count(as_text(texts))
        return np.array(
            [self._tokenizer.count(text, index) for index, text in enumerate(as_batch(texts))],
            np.int64,
        )

    def token_ids(self, text: str) -> TokenIds:
        """Tokenize and truncate a text, without adding a prompt. Shape: (tokens,)."""
        return self._tokenizer.ids(as_text(text))

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

    def _stream(
        self, texts: Iterator[str], prefix: str, batch_size: int | None, finish: Finish
    ) -> Iterator[NDArray[Any]]:
        windows = (
            self._start(
                [prefix + text for text in chunk],
                np.empty((len(chunk), self.dimension), np.float32),
                batch_size,
                range(number * WINDOW, number * WINDOW + len(chunk)),
            )
            for number, chunk in enumerate(chunks(texts))
        )
        for window in one_ahead(windows):
            for _ in window.results():
                pass
            yield finish(window.vectors)

    def _start(
        self,
        texts: Sequence[str],
        vectors: FloatArray,
        batch_size: int | None,
        indices: Sequence[int | None],
    ) -> Window:
        """Tokenize the texts and start the runs that fill their vectors; one run is done here.

        Errors name a text by its one of `indices`, its place among the caller's texts.
        """
        self._engine.check_usable()
        try:
            ids = self._tokenizer.batch_ids(texts)
            report_overlong(self._overlong, self._tokenizer, texts, ids)
        except TextError as error:
            raise error.at(indices[error.index or 0]) from error.__cause__
        lengths = np.array([len(row) for row in ids], np.int64)
        share = int(lengths.sum()) // self._engine.threads
        batches = plan_batches(
            lengths,
            tokens_per_batch=min(TOKENS_PER_BATCH, max(TOKENS_WORTH_A_WORKER, share)),
            texts_per_batch=batch_size,
        )
        if len(batches) == 1:
            _fill(vectors, ids, batches[0], self._engine.run_alone)
            return Window(vectors, [])
        window = Window(vectors, [])
        try:
            for batch in batches:
                run = self._engine.submit(_fill, vectors, ids, batch, self._engine.run)
                window.runs.append(run)
        except BaseException:  # closed meanwhile, or interrupted
            window.cancel()
            raise
        return window


def _fill(
    vectors: FloatArray,
    ids: Sequence[TokenIds],
    batch: NDArray[np.int64],
    run: Callable[[NDArray[np.int64]], FloatArray],
) -> int:
    """Fill the vectors of one batch; return how many."""
    input_ids = np.stack([ids[index] for index in batch])  # (batch, tokens)
    # A tokenizer without special tokens makes nothing of an empty text: it has no direction.
    vectors[batch] = run(input_ids) if input_ids.size else 0.0
    return len(batch)


def _with_prompt(options: EncodeOptions, name: str) -> EncodeOptions:
    """Add the prompt of this name, unless the caller chose one."""
    chosen = options.get("prompt") is not None or options.get("prompt_name") is not None
    return options if chosen else {**options, "prompt_name": name}


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected at least 1, or None")
