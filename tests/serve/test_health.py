"""Tests of the probes while embedding fails or hangs, and after it recovers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from embedrt import Embedder
from embedrt.serve import create_app
from tiny_bundle import make_tiny
from waiting import SECONDS

Answers = list[tuple[int, Any]]


@pytest.fixture
def embedder(tmp_path: Path) -> Iterator[Embedder]:
    with Embedder.load(make_tiny(tmp_path / "tiny"), threads=2) as embedder:
        yield embedder


def asked(embedder: Embedder, *requests: tuple[str, object]) -> Answers:
    """Return status and content of the answers to consecutive requests to one application."""

    async def main() -> Answers:
        transport = httpx.ASGITransport(create_app(embedder))
        answers = []
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            for path, what in requests:
                if callable(what):
                    what()
                elif what is None:
                    answers.append(await client.get(path))
                else:
                    answers.append(await client.post(path, json=what))
        return [(each.status_code, each.json() if each.content else None) for each in answers]

    return asyncio.run(main())


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, SystemExit])
def test_a_worker_that_fails(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Its requests get 500; the probes fail, and succeed again when it works again."""
    sessions = embedder._engine._sessions
    works = sessions.run

    def fails(*_: object, **_options: object) -> None:
        raise error("a text of someone")

    answers = asked(
        embedder,
        ("/health", None),
        ("", lambda: monkeypatch.setattr(sessions, "run", fails)),
        ("/embed", {"inputs": ["w1", "w2"]}),
        ("/v1/embeddings", {"input": "w3"}),
        ("/health", None),
        ("/ready", None),
        ("/live", None),
        ("", lambda: monkeypatch.setattr(sessions, "run", works)),
        ("/health", None),
        ("/embed", {"inputs": "w1"}),
    )
    assert [status for status, _ in answers] == [200, 500, 500, 503, 503, 200, 200, 200]
    assert answers[1][1]["error_type"] == "Backend"
    assert answers[3][1]["error"] == f"embedding fails: {error.__name__}"
    assert "someone" not in str(answers)


def test_a_worker_that_hangs(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedrt.serve.health.STALLED_SECONDS", 0.3)
    sessions, hanging = embedder._engine._sessions, threading.Semaphore(0)
    works, goes_on = sessions.run, threading.Event()

    def hangs(texts: Any, **options: Any) -> Any:
        hanging.release()
        assert goes_on.wait(SECONDS)
        return works(texts, **options)

    monkeypatch.setattr(sessions, "run", hangs)

    async def main() -> list[int]:
        transport = httpx.ASGITransport(create_app(embedder))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            texts = {"inputs": [f"w{number} " * (number % 7 + 1) for number in range(10)]}
            asking = asyncio.create_task(client.post("/embed", json=texts))
            for _ in range(2):  # of both workers, the last of which begins the last batch
                assert await asyncio.to_thread(hanging.acquire, timeout=SECONDS)
            statuses = [(await client.get("/health")).status_code]
            await asyncio.sleep(0.5)
            statuses.append((await client.get("/health")).status_code)
            goes_on.set()
            statuses.append((await asking).status_code)
            statuses.append((await client.get("/health")).status_code)
        return statuses

    assert asyncio.run(main()) == [200, 503, 200, 200]


def test_the_engine_is_closed_while_serving(embedder: Embedder) -> None:
    answers = asked(embedder, ("", embedder.close), ("/embed", {"inputs": "w1"}))
    assert answers == [(503, {"error": "the server is shutting down", "error_type": "Unhealthy"})]


def test_a_text_that_the_tokenizer_fails_on(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the client's and names the index; the probes do not fail."""
    tokenizer = embedder.tokenizer

    def breaking(works: Callable[..., Any]) -> Callable[..., Any]:
        def breaks(text: str | list[str], **options: Any) -> Any:
            if "w9" in text:
                raise Exception("inner library's words")  # noqa: TRY002 - the library raises it
            return works(text, **options)

        return breaks

    for name in ("encode", "_encode"):
        monkeypatch.setattr(tokenizer, name, breaking(getattr(tokenizer, name)))
    answers = asked(
        embedder,
        ("/v1/embeddings", {"input": ["w1", "w9"]}),
        ("/embed", {"inputs": ["w1", "w2", "w9"]}),
        ("/health", None),
    )
    assert [status for status, _ in answers] == [400, 422, 200]
    assert answers[0][1]["error"]["param"] == "input[1]"
    assert answers[1][1]["error"].startswith("inputs[2] breaks the tokenizer")
    assert answers[1][1]["error_type"] == "Tokenizer"
