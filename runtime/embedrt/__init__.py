"""Sentence embeddings on the CPU from verified ONNX bundles, without torch."""

from typing import TYPE_CHECKING, Any

from embedrt.bundle.manifest import Manifest as Manifest
from embedrt.bundle.reader import Bundle as Bundle
from embedrt.embedder import Embedder as Embedder
from embedrt.postprocess import quantize_embeddings as quantize_embeddings
from embedrt.similarity import semantic_search as semantic_search

if TYPE_CHECKING:
    from embedrt.multi_vector import MultiVectorEncoder as MultiVectorEncoder
    from embedrt.reranker import Reranker as Reranker
    from embedrt.sparse import SparseEncoder as SparseEncoder

__all__ = [
    "Bundle",
    "Embedder",
    "Manifest",
    "MultiVectorEncoder",
    "Reranker",
    "SparseEncoder",
    "quantize_embeddings",
    "semantic_search",
]


def __getattr__(name: str) -> Any:
    """Import on demand: ``__version__`` and the rarer classes, each of which takes milliseconds."""
    if name == "MultiVectorEncoder":
        from embedrt.multi_vector import MultiVectorEncoder  # noqa: PLC0415  # on demand

        return MultiVectorEncoder
    if name == "Reranker":
        from embedrt.reranker import Reranker  # noqa: PLC0415  # on demand

        return Reranker
    if name == "SparseEncoder":
        from embedrt.sparse import SparseEncoder  # noqa: PLC0415  # on demand

        return SparseEncoder
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415  # slow to import

        return version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
