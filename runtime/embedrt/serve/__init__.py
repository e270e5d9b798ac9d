"""HTTP: one bundle behind the routes of OpenAI, TEI, Cohere and Weaviate.

`create_app` returns the ASGI application of an `Embedder` or a `Reranker`; `embedrt serve` runs it
on a server with limits of its own. The texts of all requests share the engine's queue and its
batches.
"""

from embedrt.serve.app import create_app
from embedrt.serve.options import ServeOptions

__all__ = ["ServeOptions", "create_app"]
