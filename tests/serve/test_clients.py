"""Tests that unmodified clients get the exact vectors of a real server with a real model."""

from __future__ import annotations

import asyncio

import numpy as np
import openai
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from numpy.typing import NDArray

from embedrt import Embedder
from serving import Serving

TEXTS = ["How many people live in London?", "", "naïve 🦙 text", "word " * 400, "same", "same"]


class TestOpenAI:
    @pytest.fixture
    def client(self, server: Serving) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

    def test_embeddings(self, client: openai.OpenAI, embedder: Embedder) -> None:
        """By default, the client requests base64 and decodes it."""
        answer = client.embeddings.create(model="any", input=TEXTS)
        found = np.array([each.embedding for each in answer.data], np.float32)
        assert found.tobytes() == embedder.encode(TEXTS).tobytes()
        assert [each.index for each in answer.data] == list(range(len(TEXTS)))
        tokens = sum(len(ids) for ids in embedder.tokenize(TEXTS))
        assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (tokens, tokens)
        assert answer.model == embedder.manifest.name

    @pytest.mark.parametrize("encoding", ["float", "base64"])
    def test_one_text(self, client: openai.OpenAI, embedder: Embedder, encoding: str) -> None:
        answer = client.embeddings.create(
            model="any", input=TEXTS[0], encoding_format=encoding  # type: ignore[arg-type]
        )  # fmt: skip
        (only,) = answer.data
        found = only.embedding
        if encoding == "base64":  # the client does not decode it if the caller requested it
            import base64

            found = np.frombuffer(base64.b64decode(str(found)), "<f4").tolist()
        expected = embedder.encode(TEXTS[0])
        assert np.array(found, np.float32).tobytes() == expected.tobytes()

    def test_dimensions(self, client: openai.OpenAI, embedder: Embedder) -> None:
        answer = client.embeddings.create(model="any", input=TEXTS, dimensions=64)
        found = np.array([each.embedding for each in answer.data], np.float32)
        expected = embedder.encode(TEXTS, truncate_dim=64, normalize_embeddings=True)
        assert found.tobytes() == expected.tobytes()

    def test_async(self, server: Serving, embedder: Embedder) -> None:
        async def main() -> list[list[float]]:
            async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
                answers = await asyncio.gather(
                    *(client.embeddings.create(model="any", input=text) for text in TEXTS)
                )
            return [answer.data[0].embedding for answer in answers]

        found = np.array(asyncio.run(main()), np.float32)
        assert found.tobytes() == embedder.encode(TEXTS).tobytes()

    def test_models(self, client: openai.OpenAI, embedder: Embedder) -> None:
        name = embedder.manifest.name
        assert [model.id for model in client.models.list()] == [name]
        assert client.models.retrieve(name).id == name
        with pytest.raises(openai.NotFoundError, match=name):
            client.models.retrieve("another")

    def test_errors(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as raised:
            client.embeddings.create(model="any", input=[])
        assert raised.value.param == "input"
        assert raised.value.type == "invalid_request_error"
        assert raised.value.request_id
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
            client.embeddings.create(model="any", input=[[1, 2], [3]])
        with pytest.raises(openai.BadRequestError, match="dimensions is 385; expected 1 to 384"):
            client.embeddings.create(model="any", input="text", dimensions=385)


class TestHuggingFaceHub:
    @pytest.mark.parametrize("path", ["", "/embed"])
    @pytest.mark.parametrize("inputs", [TEXTS[0], TEXTS], ids=["one", "many"])
    def test_feature_extraction(
        self, server: Serving, embedder: Embedder, path: str, inputs: str | list[str]
    ) -> None:
        client = InferenceClient(server.url + path)
        found = client.feature_extraction(inputs, normalize=True)
        expected = embedder.encode([inputs] if isinstance(inputs, str) else inputs)
        assert found.astype(np.float32).tobytes() == expected.tobytes()

    def test_options(self, server: Serving, embedder: Embedder) -> None:
        client = InferenceClient(server.url)
        found = client.feature_extraction(
            TEXTS[0], dimensions=100, truncate=True, truncation_direction="left"
        )
        expected = embedder.encode([TEXTS[0]], truncate_dim=100, normalize_embeddings=True)
        assert found.astype(np.float32).tobytes() == expected.tobytes()

    def test_sentence_similarity(self, server: Serving, embedder: Embedder) -> None:
        found = InferenceClient(server.url).sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
        vectors = embedder.encode(TEXTS)
        expected = embedder.similarity(vectors[:1], vectors[1:])[0]
        assert np.array(found, np.float32).tobytes() == expected.tobytes()

    def test_async(self, server: Serving, embedder: Embedder) -> None:
        async def main() -> NDArray[np.float32]:
            async with AsyncInferenceClient(server.url) as client:
                return np.array(await client.feature_extraction(TEXTS[0]), np.float32)

        expected = embedder.encode([TEXTS[0]])
        assert asyncio.run(main()).tobytes() == expected.tobytes()

    def test_errors(self, server: Serving) -> None:
        client = InferenceClient(server.url)
        with pytest.raises(HfHubHTTPError) as raised:
            client.feature_extraction(TEXTS[3], truncate=False)
        assert raised.value.response.status_code == 422
        assert "inputs is too long" in raised.value.response.json()["error"]
