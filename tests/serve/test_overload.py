"""Tests of overload, clients that disconnect, and requests that take too long."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from embedrt import Embedder
from serving import Serving, serving
from waiting import SECONDS, wait_until

LONG = [f"{number} {'word ' * 60}" for number in range(200)]


@pytest.fixture(scope="module")
def small(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with one thread, a short queue and no cache."""
    options = ["--threads", "1", "--max-waiting-tokens", "1000", "--cache-mb", "0"]
    options += ["--max-body-mb", "1"]
    log = tmp_path_factory.mktemp("small") / "log"
    with serving(minilm, log, *options, held=True) as server:
        yield server


def metric(server: Serving, name: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def send(connection: socket.socket, server: Serving, value: Any) -> None:
    body = json.dumps(value).encode()
    head = f"POST /embed HTTP/1.1\r\nhost: {server.port}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


class TestAdmission:
    def test_a_full_queue_refuses_and_says_when_to_retry(
        self, small: Serving, embedder: Embedder
    ) -> None:
        groups = [[f"{group} {text}" for text in LONG[:8]] for group in range(12)]

        def ask(texts: list[str]) -> httpx.Response:
            return httpx.post(small.url + "/embed", json={"inputs": texts}, timeout=SECONDS)

        with ThreadPoolExecutor(len(groups)) as pool:
            with small.holding():
                asked = [pool.submit(ask, texts) for texts in groups]
                # One runs, and one waits at most. The others are refused while nothing ends.
                wait_until(lambda: sum(future.done() for future in asked) >= len(groups) - 2)
            answers = [future.result() for future in asked]
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        assert statuses.count(429) >= len(groups) - 2
        for texts, answer in zip(groups, answers, strict=True):
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["retry-after"]) <= 120
                assert answer.json()["error_type"] == "Overloaded"
            else:
                found = np.array(answer.json(), np.float32)
                assert found.tobytes() == embedder.encode(texts).tobytes()
        assert small.post("/embed", {"inputs": "and now?"}).status_code == 200

    def test_a_request_larger_than_the_limit_is_admitted_when_nothing_waits(
        self, small: Serving
    ) -> None:
        wait_until(lambda: metric(small, "embedrt_waiting_tokens") == 0)
        answer = small.post("/embed", {"inputs": [text[:100] for text in LONG[:100]]})
        assert answer.status_code == 200
        assert len(answer.json()) == 100

    def test_openais_client_retries(self, small: Serving) -> None:
        """The client retries after the time in the answer's header."""
        client = openai.OpenAI(base_url=f"{small.url}/v1", api_key="none", max_retries=9)

        def ask(group: int) -> int:
            texts = [f"{group} {text}" for text in LONG[:6]]
            return len(client.embeddings.create(model="any", input=texts).data)

        name = 'embedrt_requests_total{route="/v1/embeddings",status="429"'
        refused = metric(small, name)
        with ThreadPoolExecutor(8) as pool:
            with small.holding():
                asked = [pool.submit(ask, group) for group in range(8)]
                wait_until(lambda: metric(small, name) > refused)
            assert [future.result() for future in asked] == [6] * 8

    def test_a_body_that_is_too_large(self, small: Serving) -> None:
        answer = small.post("/v1/embeddings", {"input": "a" * 1_000_000})
        assert answer.status_code == 413
        assert "more than 1,000,000 bytes" in answer.json()["error"]["message"]
        parts = (b'{"input": "' + b"a" * 100_000 for _ in range(11))  # in chunks of unknown total
        answer = small.http.post(small.url + "/embed", content=parts)
        assert (answer.status_code, answer.json()["error_type"]) == (413, "Validation")

    def test_incomplete_bodies_are_limited(self, small: Serving) -> None:
        """Five of them exceed the limit for bodies in memory; small requests are still answered."""
        held = []
        for _ in range(5):
            connection = small.connect()
            head = b"POST /embed HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n"
            connection.sendall(head + b"a" * 999_000)
            held.append(connection)
        (refused, *others), _, _ = select.select(held, [], [], SECONDS)
        assert b" 429 " in refused.recv(1000).splitlines()[0]
        assert not others
        assert small.post("/embed", {"inputs": "a text"}).status_code == 200
        for connection in held:
            connection.close()
        wait_until(lambda: small.post("/embed", {"inputs": ["a" * 500_000]}).status_code == 200)


class TestDeadline:
    def test_a_request_that_takes_too_long(self, minilm: Path, tmp_path: Path) -> None:
        options = ["--threads", "1", "--timeout", "0.5", "--cache-mb", "0"]
        with serving(minilm, tmp_path / "log", *options, held=True) as server:
            with server.holding():
                answer = server.post("/v1/embeddings", {"input": LONG})
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) >= 1
                assert "no answer within 0.5 s" in answer.json()["error"]["message"]
                # Its texts are no longer queued, although none of them has run.
                wait_until(lambda: metric(server, "embedrt_waiting_texts") == 0)
            # On a busy machine, this may take too long as well.
            wait_until(lambda: server.post("/embed", {"inputs": "a text"}).status_code == 200)


class TestClientsThatGo:
    def test_a_disconnect_drops_waiting_texts(self, small: Serving) -> None:
        wait_until(lambda: metric(small, "embedrt_waiting_texts") == 0)
        run = metric(small, "embedrt_tokens_total")
        gone = metric(small, 'embedrt_requests_total{route="/embed",status="499"')
        connection = small.connect()
        with small.holding():
            send(connection, small, {"inputs": LONG})
            wait_until(lambda: metric(small, "embedrt_tokens_total") > run)
            assert metric(small, "embedrt_waiting_texts") > 100
            connection.close()
            wait_until(lambda: metric(small, "embedrt_waiting_texts") == 0)
            name = 'embedrt_requests_total{route="/embed",status="499"'
            wait_until(lambda: metric(small, name) == gone + 1)
        assert metric(small, "embedrt_tokens_total") - run < 0.5 * len(LONG) * 64

    def test_a_client_that_disconnects_while_it_sends(self, small: Serving) -> None:
        connection = small.connect()
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
        connection.close()
        assert small.post("/embed", {"inputs": "a text"}).status_code == 200
