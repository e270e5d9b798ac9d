"""Sentence embeddings on the CPU from verified ONNX bundles, without torch."""

from embedrt.bundle.manifest import Manifest as Manifest
from embedrt.bundle.reader import Bundle as Bundle
from embedrt.embedder import Embedder as Embedder
from embedrt.postprocess import quantize_embeddings as quantize_embeddings
from embedrt.similarity import semantic_search as semantic_search

__all__ = ["Bundle", "Embedder", "Manifest", "quantize_embeddings", "semantic_search"]


def __getattr__(name: str) -> str:
    """Return ``__version__``, the installed version, which takes milliseconds to look up."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415  # slow to import

        return version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
