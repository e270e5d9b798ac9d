"""Test of the recipe for LangChain's HuggingFaceEndpointEmbeddings, which sets its URL late."""

from __future__ import annotations

import asyncio

import numpy as np
from huggingface_hub import AsyncInferenceClient, InferenceClient
from langchain_huggingface import HuggingFaceEndpointEmbeddings

from embedrt import Embedder
from serving import Serving


def test_recipe(server: Serving, texts: list[str], embedder: Embedder) -> None:
    embeddings = HuggingFaceEndpointEmbeddings(
        model="sentence-transformers/all-MiniLM-L6-v2", huggingfacehub_api_token="none"
    )
    embeddings.client = InferenceClient(server.url)
    embeddings.async_client = AsyncInferenceClient(server.url)
    expected = embedder.encode(texts)
    for found in (
        embeddings.embed_documents(texts),
        asyncio.run(embeddings.aembed_documents(texts)),
    ):
        assert np.array(found, np.float32).tobytes() == expected.tobytes()
    query = np.array(embeddings.embed_query(texts[0]), np.float32)
    assert query.tobytes() == expected[0].tobytes()
