"""A bundle of a late interaction model, served: TEI's `/embed_all`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from embedrt import MultiVectorEncoder
from embedrt.serve import create_app
from embedrt.serve.dialects import late as dialect
from serving import Serving, serving
from tiny_bundle import WORDS
from tiny_late import HIDDEN, LATE, make_tiny_late

PROMPTS = {"query": "w3 ", "document": "w4 "}


def rows(*words: int) -> list[list[float]]:
    """Return the tiny model's vectors of tokens: rows of the identity, and zeros for -1."""
    return [[float(word == index) for index in range(WORDS)] for word in words]


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("late")
    kind = replace(LATE, expansion=HIDDEN, skipped=(6,))
    bundle = make_tiny_late(folder / "tiny", kind, prompts=PROMPTS)
    with serving(bundle, folder / "log", "--served-name", "tokens", "--max-texts", "5") as server:
        yield server


@pytest.mark.parametrize("path", ["/embed_all", "/", "/invocations"])
def test_answer(late: Serving, path: str) -> None:
    assert late.post(path, {"inputs": "w1 w5"}).json() == [rows(1, 5)]
    found = late.post(path, {"inputs": ["w1 w6 w1", "", "w9"], "unknown": 5}).json()
    assert found == [rows(1, 1), [], rows(9)]


def test_prompts_choose_the_side(late: Serving) -> None:
    def of(name: str) -> Any:
        (found,) = late.post("/embed_all", {"inputs": "w6", "prompt_name": name}).json()
        return found

    assert of("query") == rows(3, 6, -1, -1)
    assert of("document") == rows(4)


@pytest.mark.parametrize(
    ("prompt", "right", "left"),
    [(None, [1, *[5] * 7], [5] * 8), ("query", [3, 1, 5, 5], [5] * 4)],
)
def test_truncation(late: Serving, prompt: str | None, right: list[int], left: list[int]) -> None:
    fields = {"inputs": "w1 " + "w5 " * 9, "prompt_name": prompt}
    assert late.post("/embed_all", fields).json() == [rows(*right)]
    fields["truncation_direction"] = "Left"
    assert late.post("/embed_all", fields).json() == [rows(*left)]
    refused = late.post("/embed_all", {**fields, "truncate": False})
    assert refused.status_code == 422
    assert refused.json()["error_type"] == "Validation"


@pytest.mark.parametrize(
    ("inputs", "status", "message"),
    [
        ([1, 2], 422, "inputs holds token ids"),
        ([], 400, "inputs is empty"),
        (["a"] * 6, 422, "inputs has 6 texts"),
        ([None], 422, "inputs[0] is null"),
    ],
)
def test_errors(late: Serving, inputs: Any, status: int, message: str) -> None:
    answer = late.post("/embed_all", {"inputs": inputs})
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_the_size_of_an_answer_is_limited(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A text of a few bytes gives up to a megabyte of vectors."""
    monkeypatch.setattr(dialect, "MOST_NUMBERS", 3 * 8 * WORDS)
    folder = tmp_path_factory.mktemp("limited")

    async def ask(texts: int) -> httpx.Response:
        transport = httpx.ASGITransport(create_app(encoder))
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
            return await client.post("/embed_all", json={"inputs": ["w1"] * texts})

    with MultiVectorEncoder.load(make_tiny_late(folder / "tiny")) as encoder:
        assert asyncio.run(ask(3)).json() == [rows(1)] * 3
        refused = asyncio.run(ask(4))
    assert refused.status_code == 422
    assert "inputs has 4 texts, of up to 8 vectors each; send at most 3" in refused.text


@pytest.mark.parametrize("path", ["/embed", "/embed_sparse", "/rerank", "/similarity"])
def test_routes_of_other_tasks(late: Serving, path: str) -> None:
    answer = late.post(path, {"inputs": "w1"})
    assert answer.status_code == 424
    assert (
        "gives one vector per token; it does not serve this route. Call /embed_all" in answer.text
    )


def test_info_health_and_tokens(late: Serving) -> None:
    assert late.get("/info").json()["model_type"] == {"embedding": {"pooling": "none"}}
    assert late.get("/health").status_code == 200
    assert late.get("/card").json()["task"] == "late-interaction"
    (tokens,) = late.post("/tokenize", {"inputs": "w1"}).json()
    assert [token["id"] for token in tokens] == [1]
