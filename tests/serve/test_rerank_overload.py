"""A reranker behind the server when it fails, is too slow, or has too much to do."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from embedrt import Reranker
from embedrt.serve import ServeOptions, create_app
from tiny_bundle import make_tiny_reranker
from waiting import SECONDS

QUERY = "w1 of-someone"
TEXTS = ["w1", "w2 w3"]
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/rerank", {"query": QUERY, "texts": TEXTS}),
    ("/predict", {"inputs": [[QUERY, text] for text in TEXTS]}),
    ("/v1/rerank", {"query": QUERY, "documents": TEXTS}),
    ("/v2/rerank", {"query": QUERY, "documents": TEXTS}),
    ("/rerank", {"query": QUERY, "documents": TEXTS}),
    ("/rerank", {"query": QUERY, "documents": TEXTS, "property": ""}),
]
ERRORS = [{"error", "error_type"}] * 2 + [{"message", "detail"}] * 3 + [{"error"}]


@pytest.fixture
def reranker(tmp_path: Path) -> Iterator[Reranker]:
    bundle = make_tiny_reranker(tmp_path / "ranks")
    with Reranker.load(bundle, threads=1, max_waiting_tokens=6) as reranker:
        yield reranker


def client_of(reranker: Reranker, **options: Any) -> httpx.AsyncClient:
    app = create_app(reranker, ServeOptions(**options))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


async def answers_of(client: httpx.AsyncClient) -> list[httpx.Response]:
    return [await client.post(path, json=body) for path, body in BODIES]


def check(answers: list[httpx.Response], status: int) -> None:
    """Each route answers with this status, and in the words of its clients."""
    assert [each.status_code for each in answers] == [status] * len(BODIES)
    assert [set(each.json()) for each in answers] == ERRORS


def test_a_worker_that_fails(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = reranker._engine._sessions
    works = sessions.run

    def fails(*_: object, **_options: object) -> None:
        raise MemoryError("w1 of-someone")

    async def main() -> list[httpx.Response]:
        async with client_of(reranker) as client:
            monkeypatch.setattr(sessions, "run", fails)
            answers = await answers_of(client)
            probe = await client.get("/health")
            assert probe.json()["error"] == "scoring fails: MemoryError"
            monkeypatch.setattr(sessions, "run", works)
            assert (await client.get("/health")).status_code == 200
            assert {each.status_code for each in await answers_of(client)} == {200}
        return answers

    answers = asyncio.run(main())
    assert [each.status_code for each in answers] == [500] * len(BODIES)
    assert "someone" not in " ".join(each.text for each in answers)


def test_too_slow_and_too_much(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, goes_on = reranker._engine._sessions, threading.Event()
    works, running = sessions.run, threading.Event()

    def hangs(*arguments: Any, **options: Any) -> Any:
        running.set()
        assert goes_on.wait(SECONDS)
        return works(*arguments, **options)

    monkeypatch.setattr(sessions, "run", hangs)
    first, second = (
        {"query": "w1", "texts": texts} for texts in (["w1"], ["w2 w2", "w2 w3", "w2 w4"])
    )

    async def main() -> None:
        async with client_of(reranker, timeout=0.2) as client:
            # The first runs, unless the machine is so busy that its time is over before.
            late = [await client.post("/rerank", json=first)]
            while not running.is_set():
                late.append(await client.post("/rerank", json=first))
            late.append(await client.post("/rerank", json=second))
            for each in late:
                assert each.status_code == 503
                assert each.json()["error"].startswith("no answer within 0.2 s")
            assert reranker.stats().waiting_texts == 0
        async with client_of(reranker) as client:
            # As one runs and nothing waits, the second is admitted whatever its size.
            asked = asyncio.create_task(client.post("/rerank", json=second))
            while reranker.stats().waiting_texts < 3:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
            full = await answers_of(client)
            assert [each.status_code for each in full] == [429] * len(BODIES)
            # /rerank is refused before the fields are read that would tell the dialect.
            assert [set(each.json()) for each in full] == [*ERRORS[:4], ERRORS[0], ERRORS[0]]
            assert all(int(each.headers["retry-after"]) >= 1 for each in full)
            goes_on.set()
            assert (await asked).status_code == 200
            assert {each.status_code for each in await answers_of(client)} == {200}

    asyncio.run(main())


def test_too_slow_in_each_dialect(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, goes_on = reranker._engine._sessions, threading.Event()
    monkeypatch.setattr(sessions, "run", lambda *_, **_options: goes_on.wait(SECONDS))

    async def main() -> list[httpx.Response]:
        async with client_of(reranker, timeout=0.05) as client:
            return await answers_of(client)

    answers = asyncio.run(main())
    goes_on.set()
    check(answers, 503)
    assert all("retry-after" in each.headers for each in answers)


def test_closed_underneath(reranker: Reranker) -> None:
    async def main() -> list[httpx.Response]:
        async with client_of(reranker) as client:
            reranker.close()
            return await answers_of(client)

    check(asyncio.run(main()), 503)


def test_the_log_carries_no_text(reranker: Reranker, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[httpx.Response]:
        async with client_of(reranker) as client:
            return await answers_of(client)

    with caplog.at_level(logging.DEBUG):
        assert {each.status_code for each in asyncio.run(main())} == {200}
    assert "2 texts, length:hash 2:" in caplog.text
    assert "of-someone" not in caplog.text
