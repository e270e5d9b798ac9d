"""Sentence embeddings on the CPU from verified ONNX bundles, without torch.

The names in `__all__` and in `embedrt.errors` are the stable interface. README.md describes more:
`embedrt.corpus`, `embedrt.serve` and `embedrt.integrations`. All other modules are internal.

    embedder, reranker, sparse, multi_vector  a class for each kind of model; start with `embedder`
    loaded, request                           their common parts: loading, options of calls
    bundle/                                   the format on disk: manifest, checks, reader, writer
    text/                                     accepted inputs, prompts, tokenization
    engine/                                   queue, batches, threads, ONNX Runtime sessions
    kernels/                                  native kernels, a second engine for int8
    similarity, postprocess                   scores and search; normalization, lower precision
    cli/, serve/, corpus/, hub/, bench/, integrations/    built on the modules above
"""

from importlib import import_module
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


_ON_DEMAND = {
    "MultiVectorEncoder": "embedrt.multi_vector",
    "Reranker": "embedrt.reranker",
    "SparseEncoder": "embedrt.sparse",
}


def __getattr__(name: str) -> Any:
    """Import on demand: ``__version__`` and the rarer classes, each of which takes milliseconds."""
    if name in _ON_DEMAND:
        return getattr(import_module(_ON_DEMAND[name]), name)
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415  # slow to import

        return version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
