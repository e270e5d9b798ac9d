"""Tests that frameworks' own clients get the exact vectors from a real server."""

from __future__ import annotations

import asyncio
import os

import litellm
import numpy as np
import pytest
from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from numpy.typing import ArrayLike
from pydantic import SecretStr

from embedrt import Embedder
from serving import Serving


def same(found: ArrayLike, expected: ArrayLike) -> bool:
    return np.array(found, np.float32).tobytes() == np.array(expected, np.float32).tobytes()


def langchain(server: Serving, *, check: bool) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        base_url=f"{server.url}/v1",
        api_key=SecretStr("none"),
        model="all-MiniLM-L6-v2",
        check_embedding_ctx_length=check,
        max_retries=0,
    )


def test_langchain_openai(server: Serving, texts: list[str], embedder: Embedder) -> None:
    embeddings = langchain(server, check=False)
    expected = embedder.encode(texts)
    assert same(embeddings.embed_documents(texts), expected)
    assert same(asyncio.run(embeddings.aembed_documents(texts)), expected)
    assert same(embeddings.embed_query(texts[0]), expected[0])


@pytest.mark.skipif("EMBEDRT_TEST_TIKTOKEN" not in os.environ, reason="needs a .tiktoken file")
def test_langchain_openai_with_token_ids(
    server: Serving, texts: list[str], embedder: Embedder
) -> None:
    """LangChain sends ids of OpenAI's tokenizer by default, which the server decodes."""
    embeddings = langchain(server, check=True)
    texts = [*texts, "naïve 🦙 text"]
    expected = embedder.encode(texts)
    # LangChain normalizes again the vectors of texts that it has split.
    found = np.array(embeddings.embed_documents(texts), np.float32)
    assert np.abs(found - expected).max() < 1e-6


def test_llama_index_tei(server: Serving, texts: list[str], embedder: Embedder) -> None:
    embeddings = TextEmbeddingsInference(model_name="any", base_url=server.url)
    expected = embedder.encode(texts)
    assert same(embeddings.get_text_embedding_batch(texts), expected)
    assert same(asyncio.run(embeddings.aget_text_embedding_batch(texts)), expected)
    assert same(embeddings.get_query_embedding(texts[0]), expected[0])


def test_llama_index_openai_like(server: Serving, texts: list[str], embedder: Embedder) -> None:
    embeddings = OpenAILikeEmbedding(
        model_name="any", api_base=f"{server.url}/v1", api_key="none", embed_batch_size=2
    )
    expected = embedder.encode(texts)
    assert same(embeddings.get_text_embedding_batch(texts), expected)
    assert same(embeddings.get_query_embedding(texts[0]), expected[0])


def test_haystack(server: Serving, texts: list[str], embedder: Embedder) -> None:
    options = {
        "api_type": "text_embeddings_inference",
        "api_params": {"url": server.url},
        "token": Secret.from_token("none"),
    }
    one = HuggingFaceAPITextEmbedder(**options).run(text=texts[0])
    assert same(one["embedding"], embedder.encode(texts[0]))
    documents = [Document(content=text) for text in texts]
    many = HuggingFaceAPIDocumentEmbedder(**options).run(documents=documents)
    assert same([each.embedding for each in many["documents"]], embedder.encode(texts))


def test_chroma(server: Serving, texts: list[str], embedder: Embedder) -> None:
    embed = HuggingFaceEmbeddingServer(url=f"{server.url}/embed")
    assert same(embed(texts), embedder.encode(texts))


def test_litellm(server: Serving, texts: list[str], embedder: Embedder) -> None:
    answer = litellm.embedding(
        model="openai/any", input=texts, api_base=f"{server.url}/v1", api_key="none"
    )
    assert same([each["embedding"] for each in answer.data], embedder.encode(texts))
    with pytest.raises(litellm.BadRequestError, match=r"input\[1\] is null"):
        litellm.embedding(
            model="openai/any",
            input=["a", None],
            api_base=f"{server.url}/v1",
            api_key="none",
        )
