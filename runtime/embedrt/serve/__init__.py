"""HTTP: one bundle behind the routes that the clients of OpenAI, TEI, Cohere and Weaviate know.

`create_app` makes the ASGI application of an `Embedder` or a `Reranker`; `embedrt serve` runs it on
a server with limits of its own. Texts of all requests wait in the engine's queue, and share its
batches.
"""

from embedrt.serve.app import create_app
from embedrt.serve.options import ServeOptions

__all__ = ["ServeOptions", "create_app"]
