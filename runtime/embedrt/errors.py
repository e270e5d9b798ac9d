"""Everything that embedrt raises on purpose.

EmbedrtError
├── BundleError
│   ├── BundleNotFoundError   (FileNotFoundError)  no bundle at that path
│   ├── BundleFormatError     (ValueError)         a bundle that this version cannot read
│   └── BundleCorruptError    (ValueError)         a bundle that is not what its manifest says
├── TextError                 (ValueError)         one text that cannot be embedded, by its index
│   ├── OverlongTextError                          it is beyond the maximum, where asked to tell
│   └── TokenizationError                          the tokenizer breaks on it
├── ClosedError               (RuntimeError)       an Embedder used after `close`
├── OverloadedError           (RuntimeError)       more tokens would wait than were allowed to
├── ForkedError               (RuntimeError)       one used in a process forked while it ran
├── NonFiniteEmbeddingError   (ArithmeticError)    NaN or infinity came out of the graph
├── ExportError
│   ├── SourceError           (OSError)            the model's files cannot be had
│   ├── UnsupportedModelError (ValueError)         a model that cannot be exported, and why
│   ├── RecipeMismatchError   (ValueError)         the model's own files differ from its recipe
│   ├── QuantizationError     (RuntimeError)       a stage of int8 was given or made what it cannot
│   ├── QualityError          (RuntimeError)       int8 loses too much of the model's quality
│   └── ProofError            (RuntimeError)       the bundle disagrees with its original
└── MissingExtraError         (ImportError)        a command whose packages are not installed

A wrong argument raises the builtin ``ValueError`` or ``TypeError``: it is the caller's to mend.
"""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Self


class EmbedrtError(Exception):
    """The root of the tree above."""


class BundleError(EmbedrtError):
    """Something is wrong with a bundle on disk."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """There is no bundle at that path."""


class BundleFormatError(BundleError, ValueError):
    """The bundle does not follow the format that this version reads."""


class BundleCorruptError(BundleError, ValueError):
    """The bundle's files are not those that its manifest describes."""


class TextError(EmbedrtError, ValueError):
    """One text cannot be embedded. Leave it out, or mend it, and call again.

    `index` is its place among the texts of the call, from 0; None where it is the only one.
    """

    def __init__(self, complaint: str, index: int | None = None) -> None:
        super().__init__(complaint, index)
        self.complaint = complaint
        self.index = index

    def at(self, index: int | None) -> Self:
        """Return the same error about another place."""
        return type(self)(self.complaint, index)

    def __str__(self) -> str:
        place = "text" if self.index is None else f"texts[{self.index}]"
        return f"{place} {self.complaint}"


class OverlongTextError(TextError):
    """A text has more tokens than the model takes, and ``overlong="error"`` was asked for."""


class TokenizationError(TextError):
    """The tokenizer breaks on a text: it refuses it, or panics."""


class ClosedError(EmbedrtError, RuntimeError):
    """An Embedder was used after it had been closed."""


class OverloadedError(EmbedrtError, RuntimeError):
    """A call would make more tokens wait than ``max_waiting_tokens`` allows. Call again later."""


class ForkedError(EmbedrtError, RuntimeError):
    """An Embedder was used in a process that was forked off while it ran."""


class NonFiniteEmbeddingError(EmbedrtError, ArithmeticError):
    """The graph gave NaN or infinity."""


class ExportError(EmbedrtError):
    """An export that did not end in a bundle."""


class SourceError(ExportError, OSError):
    """The model's files cannot be had or are not the ones expected."""


class UnsupportedModelError(ExportError, ValueError):
    """The exporter cannot take this model."""


class RecipeMismatchError(ExportError, ValueError):
    """The model's own files say something else than its recipe."""


class QuantizationError(ExportError, RuntimeError):
    """A stage of the quantization was given, or made, what int8 cannot be made of."""


class QualityError(ExportError, RuntimeError):
    """No int8 scheme keeps the model's quality."""


class ProofError(ExportError, RuntimeError):
    """The finished bundle does not agree with sentence-transformers."""


class MissingExtraError(EmbedrtError, ImportError):
    """A command needs packages that only come with an extra."""


PACKAGE = str(Path(__file__).parent)


def warn_caller(message: str) -> None:
    """Warn as from the nearest frame outside this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
