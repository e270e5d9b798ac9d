"""A loaded bundle: the base of the classes of all tasks.

Loading, the tokenizer, the scheduler, closing and pickling are the same for every task. The
subclass of a task adds its results: `Embedder` embeddings, `Reranker` scores, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, get_args

import numpy as np

from embedrt.arguments import check_at_least, check_choice, check_count
from embedrt.bundle.graph_rules import Ends, check_graph
from embedrt.bundle.manifest import Manifest, Similarity, Task
from embedrt.bundle.reader import Bundle, Verify
from embedrt.engine.cache import VectorCache
from embedrt.engine.call import Call, TokenizeTexts
from embedrt.engine.cpu import available_threads
from embedrt.engine.scheduler import Engine
from embedrt.engine.sessions import Convert
from embedrt.engine.stats import Stats
from embedrt.errors import BundleCorruptError, BundleFormatError
from embedrt.fixed import FixedPrompts, refuse_assignment
from embedrt.kernels.choose import USES, Choosing, Use
from embedrt.progress import progress_bar
from embedrt.text.inputs import Texts, as_batch, as_text
from embedrt.text.tokenizer import TokenIds, Tokenizer
from embedrt.text.truncation import Overlong

MEGABYTE = 1_000_000
STREAM_CACHE_BYTES = 8 * MEGABYTE  # for repeated texts within a stream

# The classes that load the bundles of each task.
CLASSES: dict[Task, str] = {
    "embedding": "Embedder",
    "reranking": "Reranker",
    "sparse": "SparseEncoder",
    "late-interaction": "MultiVectorEncoder",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Options of a loaded bundle. None of them but `kernels` changes a result."""

    threads: int | None = None
    """Cores to use; by default all that the affinity mask and the CPU quota allow."""
    overlong: Overlong = "truncate"
    """How to treat a text of more than `max_tokens` tokens: ``"truncate"`` it like
    sentence-transformers; ``"warn"`` and truncate it; or ``"error"``: raise OverlongTextError."""
    cache_mb: float = 0
    """Size in megabytes of a cache for the results of recent texts. The cache is exact: it returns
    the same bytes as a computation. Static models do not use it."""
    max_waiting_tokens: int | None = None
    """Limit of the tokens in the queue: a call that would exceed it raises OverloadedError. By
    default all calls are queued. An idle engine accepts any call."""
    mapped: bool = True
    """Whether to map the weights, which shares them with all processes that load the bundle. A
    mapped file must not be modified: if it is truncated, SIGBUS ends the process. False reads the
    weights into private memory."""
    kernels: Use | None = None
    """Whether the native kernels of the package embedrt-kernels run the bundle: ``"auto"`` uses
    them where the processor and the bundle fit, ``"off"`` uses ONNX Runtime, and ``"require"``
    raises KernelsError where they cannot. By default the environment variable EMBEDRT_KERNELS, or
    ``"auto"``. Their vectors agree with those of ONNX Runtime to the rounding of int8."""

    def __post_init__(self) -> None:
        check_count("threads", self.threads, 1, "or None for all there are")
        check_at_least("cache_mb", self.cache_mb, 0)
        check_count("max_waiting_tokens", self.max_waiting_tokens, 1, "or None")
        check_choice("overlong", self.overlong, get_args(Overlong))
        if self.kernels is not None:
            check_choice("kernels", self.kernels, USES)


class LoadedBundle:
    """A bundle with its tokenizer and its engine. Thread-safe. Close it after use."""

    _task: ClassVar[Task]
    """The kind of bundle that the class loads."""

    def __init__(self, bundle: Bundle, options: LoadOptions | None = None) -> None:
        options = options or LoadOptions()
        manifest = bundle.manifest
        if manifest.task != self._task:
            raise BundleFormatError(
                f"{bundle.path} is a bundle for {manifest.task}, but {type(self).__name__} "
                f"loads bundles for {self._task}; use {CLASSES[manifest.task]}.load"
            )
        self._options = replace(options, threads=options.threads or available_threads())
        graph = check_graph(bundle.graph, bundle.weights_size, Ends.of(manifest))
        choosing = Choosing(bundle, graph, options.kernels, mapped=options.mapped)
        self._manifest = manifest
        self._tokenizer = Tokenizer.of(bundle.tokenizer, manifest)
        self._chosen = choosing.choice(self._tokenizer.batch_ids)
        self._engine = Engine(
            bundle.graph,
            manifest.precision,
            self._options.threads or 1,
            self._tokenize(),
            weights=bundle.load_weights(mapped=options.mapped),
            max_tokens=self.max_tokens,
            cache_bytes=int(options.cache_mb * MEGABYTE),
            max_waiting_tokens=options.max_waiting_tokens,
            convert=self._convert(),
            by_token="tokens" in manifest.outputs[0].axes,
            kernels=self._chosen.kernels,
            runs_at_once=manifest.is_static,
        )
        if self._engine.dimension not in (None, manifest.dimension):
            raise BundleCorruptError(
                f"{bundle.path}: the graph gives {self._engine.dimension} components and the "
                f"manifest says {manifest.dimension}; copy or export the bundle again"
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
        kernels: Use | None = None,
        verify: Verify = "size",
    ) -> Self:
        """Load a bundle.

        Parameters
        ----------
        path
            The bundle's folder, or ``hub:org/name@COMMIT``, which is pulled from a hub once.
        verify
            ``"size"`` checks the sizes of the bundle's files, ``"sha256"`` also their content.
        threads, overlong, cache_mb, max_waiting_tokens, mapped, kernels
            See `LoadOptions`.

        Raises
        ------
        BundleError
            There is no bundle, its format is unknown, its files differ from the manifest, or it is
            for another task.
        KernelsError
            Kernels are required, and cannot run the bundle.
        """
        options = LoadOptions(
            threads=threads,
            overlong=overlong,
            cache_mb=cache_mb,
            max_waiting_tokens=max_waiting_tokens,
            mapped=mapped,
            kernels=kernels,
        )
        return cls(Bundle.open(path, verify=verify), options)

    def _tokenize(self) -> TokenizeTexts:
        """Return the function that tokenizes the texts of calls."""
        return self._tokenizer.batch_ids

    def _convert(self) -> Convert | None:
        """Return the function from the graph's output to results; None if its rows are results."""
        return None

    @property
    def manifest(self) -> Manifest:
        """All metadata of the bundle and its model."""
        return self._manifest

    @property
    def options(self) -> LoadOptions:
        """The options of `load`, with the actual number of `threads`."""
        return self._options

    @property
    def max_tokens(self) -> int:
        """Number of tokens that a text is truncated to, including special tokens."""
        return self._manifest.max_tokens

    max_seq_length = max_tokens  # the name in sentence-transformers, for code written for it

    @property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer."""
        return self._tokenizer

    @property
    def prompts(self) -> dict[str, str]:
        """The texts that can be prepended to the input, by name."""
        return FixedPrompts(self._manifest.prompts)

    @property
    def default_prompt_name(self) -> str | None:
        """The name of the prompt that is used by default."""
        return self._manifest.default_prompt_name

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
        """Return the token ids of each text as the graph gets them, without a prompt or padding.

        Shape: (tokens,) each. Raises TokenizationError.
        """
        with self._engine.core():
            return self._tokenizer.batch_ids([texts] if isinstance(texts, str) else as_batch(texts))

    def _stream_cache(self) -> VectorCache | None:
        """Return a cache for the texts of one stream; None if the engine has a cache."""
        return None if self._options.cache_mb else VectorCache(STREAM_CACHE_BYTES)

    def _run(self, call: Call, *, shown: bool = False, unit: str = "text") -> None:
        """Run a call and wait for it, with a progress bar on stderr if `shown`."""
        if not shown:
            self._engine.run(call)
            return
        with progress_bar(len(call.vectors), shown=shown, unit=unit) as advance:
            self._engine.run(call, advance)

    @property
    def waiting_tokens(self) -> int:
        """Number of tokens in the queue, as in `stats` but faster to get."""
        return self._engine.waiting_tokens

    @property
    def is_usable(self) -> bool:
        """Whether it takes calls: it has not been closed, nor copied by a fork during a run."""
        return self._engine.is_usable

    def stats(self) -> Stats:
        """Return counters of the work done, and the current size of the queue."""
        chosen = self._chosen
        return replace(self._engine.stats(), engine=chosen.engine, engine_reason=chosen.why)

    def close(self) -> None:
        """End the worker threads. Calls in progress finish or raise ClosedError."""
        self._engine.close()

    def __setattr__(self, name: str, value: object) -> None:
        refuse_assignment(name)
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Callable[[], LoadedBundle], tuple[()]]:
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


class VectorBundle(LoadedBundle):
    """A loaded bundle whose results all have the same number of components."""

    @property
    def dimension(self) -> int:
        """Components of an embedding, or of a sparse row: one for each token of the vocabulary."""
        return self._manifest.dimension

    @property
    def similarity_fn_name(self) -> Similarity:
        """The score that the model was trained for, computed by `similarity`."""
        return self._manifest.similarity

    # Names of sentence-transformers, for code written for it.

    def get_max_seq_length(self) -> int:
        """Return `max_tokens`."""
        return self.max_tokens

    def get_embedding_dimension(self) -> int:
        """Return `dimension`."""
        return self.dimension

    get_sentence_embedding_dimension = get_embedding_dimension
