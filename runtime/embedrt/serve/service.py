"""The service behind all dialects: runs the model on the texts of a request."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

from embedrt.bundle.manifest import ScoreActivation, Side
from embedrt.errors import ClosedError, OverloadedError, OverlongTextError, TextError
from embedrt.loaded import LoadedBundle
from embedrt.pair import Pair, TextKind
from embedrt.request import Embedded
from embedrt.serve.admission import Admission
from embedrt.serve.errors import Kind, RequestError
from embedrt.serve.fields import Texts, word
from embedrt.serve.health import Health
from embedrt.serve.metrics import Metrics
from embedrt.serve.options import ServeOptions
from embedrt.serve.vocabulary import Vocabulary
from embedrt.serve.watch import Watch
from embedrt.text.prompts import Prompts

if TYPE_CHECKING:
    from embedrt.embedder import Embedder
    from embedrt.multi_vector import MultiVectorEncoder
    from embedrt.reranker import Reranker, Scored
    from embedrt.sparse import SparseEncoder

logger = logging.getLogger("embedrt.serve")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of a request for embeddings."""

    prompt_name: str | None = None
    normalize: bool = False
    dimensions: int | None = None
    truncate: bool = True
    side: Side | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """The options of a request for scores."""

    prompt_name: str | None = None
    activation: ScoreActivation | None = None
    """None for the model's own."""
    truncate: bool = True
    side: Side | None = None


class Service:
    """A loaded bundle in a server."""

    def __init__(self, loaded: LoadedBundle, options: ServeOptions) -> None:
        self.loaded = loaded
        self.manifest = loaded.manifest
        self.options = options
        self.prompts = Prompts.of(loaded.manifest)
        self.metrics = Metrics(loaded)
        self.health = Health(loaded)
        self.admission = Admission(loaded, options.max_body_bytes)
        self.watch = Watch(options.timeout, self.admission.retry_after)
        self.vocabulary = None if options.tiktoken is None else Vocabulary(options.tiktoken)
        self.started = monotonic()
        self.tokenizing = asyncio.Semaphore(1)  # one core for texts that are only tokenized

    @property
    def name(self) -> str:
        """The model's name in answers."""
        return self.options.served_name or self.manifest.name

    @cached_property
    def version(self) -> str | None:
        """The version of embedrt; None where it is run without being installed."""
        with suppress(PackageNotFoundError):
            return version("embedrt")
        return None

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of a reranker's scores."""
        own = self.manifest.reranking
        return () if own is None else own.labels

    def prompt_name(self, fields: Mapping[str, Any]) -> str | None:
        """Return the field ``prompt_name``, the name of a prompt that the model has."""
        name = word(fields, "prompt_name")
        try:
            self.prompts.choose(name)
        except ValueError as error:
            raise RequestError("invalid", str(error)[:300], field="prompt_name") from None
        return name

    async def embed(self, texts: Texts, wanted: Wanted) -> Embedded:
        """Embed the texts of a request; raise RequestError where that fails.

        The vectors have the shape (texts, dimension), also for one string.
        """
        normalize = wanted.normalize and not (self.manifest.normalized and not wanted.dimensions)
        embedding = cast("Embedder", self.loaded).aembed(
            texts.values,
            prompt_name=wanted.prompt_name,
            normalize_embeddings=normalize,
            truncate_dim=wanted.dimensions,
            overlong="truncate" if wanted.truncate else "error",
            truncation_side=wanted.side,
        )
        return await self._run(texts, embedding)

    async def encode(self, texts: Texts, wanted: Wanted) -> Embedded:
        """Compute the sparse rows, or the vectors of all tokens, of a request's texts.

        Texts with the model's prompt for queries or documents are computed as such. Raises
        RequestError where that fails.
        """
        kinds: dict[str | None, TextKind] = {
            self.prompts.query: "query",
            self.prompts.document: "document",
        }
        encoding = cast("SparseEncoder | MultiVectorEncoder", self.loaded).aembed(
            texts.values,
            prompt_name=wanted.prompt_name,
            task=kinds.get(wanted.prompt_name),
            overlong="truncate" if wanted.truncate else "error",
            truncation_side=wanted.side,
        )
        return await self._run(texts, encoding)

    async def score(self, pairs: Sequence[Pair], texts: Texts, wanted: Scoring) -> Scored:
        """Score the pairs of a request; raise RequestError where that fails.

        `texts` are those of the request's field that has one for each pair. The scores have the
        shape (pairs,), or (pairs, labels) for several labels.
        """
        scoring = cast("Reranker", self.loaded).ascore(
            pairs,
            prompt_name=wanted.prompt_name,
            activation_fn=wanted.activation,
            overlong="truncate" if wanted.truncate else "error",
            truncation_side=wanted.side,
        )
        return await self._run(texts, scoring)

    async def _run(self, texts: Texts, computing: Awaitable[Result]) -> Result:
        """Await the results for the texts; raise RequestError where that fails."""
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s", _shapes(texts.values))
        try:
            return await computing
        except OverloadedError:
            raise self.admission.refusal("too many tokens are waiting") from None
        except TextError as error:
            place = texts.place(error.index)
            kind: Kind = "invalid" if isinstance(error, OverlongTextError) else "tokenizer"
            raise RequestError(kind, f"{place} {error.complaint}", field=place) from None
        except ClosedError:
            raise RequestError("unhealthy", "the server is shutting down") from None
        except asyncio.CancelledError:
            if (late := self.watch.lateness()) is not None:  # in the words of the client
                raise late from None
            raise
        except BaseException as error:  # noqa: BLE001 - what a worker ended with, SystemExit too
            self.health.note_failure()
            raise failure(error) from None


def _shapes(texts: Sequence[str]) -> str:
    """Return lengths and hashes of texts, for logs, which must not contain texts."""
    shown = [f"{len(t)}:{sha256(t.encode(errors='replace')).hexdigest()[:8]}" for t in texts[:8]]
    return f"{len(texts)} texts, length:hash {' '.join(shown)}"


def failure(error: BaseException) -> RequestError:
    """Log an unexpected error without its message, which may contain a text; return the error."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("a request failed: %s\n%s", type(error).__name__, frames)
    return RequestError("internal", "the server failed on this request; see its log")
