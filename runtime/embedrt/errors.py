"""The exceptions of embedrt.

EmbedrtError
├── BundleError
│   ├── BundleNotFoundError   (FileNotFoundError)  no bundle at that path
│   ├── BundleFormatError     (ValueError)         a bundle that this version cannot read
│   ├── BundleCorruptError    (ValueError)         a bundle that differs from its manifest
│   └── HubError              (OSError)            a bundle that cannot be pulled or pushed
├── TextError                 (ValueError)         one text that cannot be embedded, with its index
│   ├── OverlongTextError                          too many tokens, with ``overlong="error"``
│   └── TokenizationError                          the tokenizer fails on the text
├── ClosedError               (RuntimeError)       a bundle used after `close`
├── OverloadedError           (RuntimeError)       more waiting tokens than ``max_waiting_tokens``
├── ForkedError               (RuntimeError)       a bundle used after a fork during a run
├── KernelsError              (RuntimeError)       kernels are required but cannot run a bundle
├── NonFiniteEmbeddingError   (ArithmeticError)    the graph returned NaN or infinity
├── CorpusError
│   ├── CorpusSourceError     (ValueError)         files of texts that cannot be embedded
│   └── CorpusOutputError     (ValueError)         an output folder of another job, or damaged
├── ExportError
│   ├── SourceError           (OSError)            the model's files are missing or unexpected
│   ├── UnsupportedModelError (ValueError)         a model that cannot be exported, and why
│   ├── RecipeMismatchError   (ValueError)         the model's own files differ from its recipe
│   ├── QuantizationError     (RuntimeError)       invalid input or output of an int8 stage
│   ├── QualityError          (RuntimeError)       int8 loses too much of the model's quality
│   └── ProofError            (RuntimeError)       the bundle disagrees with the original model
└── MissingExtraError         (ImportError)        a command whose packages are not installed

An invalid argument raises the builtin ``ValueError`` or ``TypeError``.
"""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Self


class EmbedrtError(Exception):
    """Base class of all exceptions of embedrt."""


class BundleError(EmbedrtError):
    """A bundle cannot be read."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """There is no bundle at the given path."""


class BundleFormatError(BundleError, ValueError):
    """The bundle does not follow the format that this version reads."""


class BundleCorruptError(BundleError, ValueError):
    """The bundle's files are damaged or differ from what the manifest describes."""


class HubError(BundleError, OSError):
    """A bundle cannot be pulled from a hub, or pushed to it."""


class TextError(EmbedrtError, ValueError):
    """One text cannot be embedded. Remove or fix it and call again.

    `index` is the text's index among the texts of the call; None if the caller passed one str.
    """

    def __init__(self, complaint: str, index: int | None = None) -> None:
        super().__init__(complaint, index)
        self.complaint = complaint
        self.index = index

    def at(self, index: int | None) -> Self:
        """Return the same error with another index."""
        return type(self)(self.complaint, index)

    def __str__(self) -> str:
        place = "text" if self.index is None else f"texts[{self.index}]"
        return f"{place} {self.complaint}"


class OverlongTextError(TextError):
    """With ``overlong="error"``, a text has more tokens than the model's maximum."""


class TokenizationError(TextError):
    """The tokenizer raises an error or panics on a text."""


class ClosedError(EmbedrtError, RuntimeError):
    """An Embedder or Reranker is used after it has been closed."""


class OverloadedError(EmbedrtError, RuntimeError):
    """A call would exceed the limit ``max_waiting_tokens`` of queued tokens. Call again later."""


class ForkedError(EmbedrtError, RuntimeError):
    """An Embedder or Reranker is used in a process that was forked while it was running."""


class KernelsError(EmbedrtError, RuntimeError):
    """A bundle is loaded with ``kernels="require"``, but the kernels cannot run it."""


class NonFiniteEmbeddingError(EmbedrtError, ArithmeticError):
    """The graph returned NaN or infinity."""


class CorpusError(EmbedrtError):
    """A corpus cannot be embedded or verified."""


class CorpusSourceError(CorpusError, ValueError):
    """The source cannot be read, or lacks a requested column."""


class CorpusOutputError(CorpusError, ValueError):
    """The output folder belongs to another job, is incomplete, or is damaged."""


class ExportError(EmbedrtError):
    """An export failed."""


class SourceError(ExportError, OSError):
    """The model's files cannot be read or downloaded, or are not the expected ones."""


class UnsupportedModelError(ExportError, ValueError):
    """The exporter does not support this model."""


class RecipeMismatchError(ExportError, ValueError):
    """The model's own files differ from its recipe."""


class QuantizationError(ExportError, RuntimeError):
    """The input or output of a quantization stage does not meet its conditions."""


class QualityError(ExportError, RuntimeError):
    """No int8 scheme keeps the model's quality."""


class ProofError(ExportError, RuntimeError):
    """The finished bundle does not agree with sentence-transformers."""


class MissingExtraError(EmbedrtError, ImportError):
    """A command needs packages of an extra that is not installed."""


PACKAGE = str(Path(__file__).parent)


def warn_caller(message: str) -> None:
    """Issue a warning attributed to the nearest frame outside this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
