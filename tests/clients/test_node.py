"""Tests that the Node packages of OpenAI and Hugging Face get the exact vectors from a server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder
from serving import Serving

SCRIPT = Path(__file__).with_name("node.mjs")


@pytest.fixture(scope="module")
def found(server: Serving, texts: list[str]) -> Any:
    question = json.dumps({"url": server.url, "texts": texts})
    ended = subprocess.run(
        ["node", SCRIPT],
        input=question,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return json.loads(ended.stdout)


@pytest.mark.parametrize("way", ["base64", "float", "hub"])
def test_vectors(found: Any, texts: list[str], embedder: Embedder, way: str) -> None:
    vectors = np.array(found[way], np.float32)
    assert vectors.tobytes() == embedder.encode(texts).tobytes()


def test_similarity(found: Any, texts: list[str], embedder: Embedder) -> None:
    vectors = embedder.encode(texts)
    expected = embedder.similarity(vectors[:1], vectors[1:])[0]
    assert np.array(found["similarity"], np.float32).tobytes() == expected.tobytes()


def test_the_rest(found: Any, texts: list[str], embedder: Embedder) -> None:
    assert found["usage"]["prompt_tokens"] == sum(map(len, embedder.tokenize(texts)))
    assert (found["status"], found["param"]) == (400, "input")
