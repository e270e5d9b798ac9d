"""Everything that embedrt raises on purpose.

EmbedrtError
├── BundleError
│   ├── BundleNotFoundError   (FileNotFoundError)  no bundle at that path
│   ├── BundleFormatError     (ValueError)         a bundle that this version cannot read
│   └── BundleCorruptError    (ValueError)         a bundle that is not what its manifest says
├── OverlongTextError         (ValueError)         a text beyond the maximum, where asked to tell
├── NonFiniteEmbeddingError   (ArithmeticError)    NaN or infinity came out of the graph
├── ExportError
│   ├── SourceError           (OSError)            the model's files cannot be had
│   ├── UnsupportedModelError (ValueError)         a model that cannot be exported, and why
│   ├── RecipeMismatchError   (ValueError)         the model's own files differ from its recipe
│   ├── QualityError          (RuntimeError)       int8 loses too much of the model's quality
│   └── ProofError            (RuntimeError)       the bundle disagrees with its original
└── MissingExtraError         (ImportError)        a command whose packages are not installed

A wrong argument raises the builtin ``ValueError`` or ``TypeError``: it is the caller's to mend.
"""

from __future__ import annotations


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


class OverlongTextError(EmbedrtError, ValueError):
    """A text has more tokens than the model takes, and ``overlong="error"`` was asked for."""


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


class QualityError(ExportError, RuntimeError):
    """No int8 scheme keeps the model's quality."""


class ProofError(ExportError, RuntimeError):
    """The finished bundle does not agree with sentence-transformers."""


class MissingExtraError(EmbedrtError, ImportError):
    """A command needs packages that only come with an extra."""
