"""Tests of the API key: required by every route except the probes, and never revealed."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from embedrt import Embedder
from embedrt.serve import ServeOptions, create_app
from embedrt.serve.app import OPERATIONS
from serving import Serving, serving
from tiny_bundle import make_tiny

KEYS = ["first-key", "second-key"]
SECRET = "w1 the-secret-of-one-caller"

PROBES = {"/live", "/ready", "/health", "/ping", "/.well-known/live", "/.well-known/ready"}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("locked")
    keys = folder / "keys"
    keys.write_text("\n".join(KEYS) + "\n", encoding="utf-8-sig")  # as Windows' editors write it
    options = ["--api-key-file", str(keys), "--log-level", "debug", "--max-body-mb", "0.001"]
    environment = {"EMBEDRT_API_KEY": "third-key\n"}  # as of a Secret that is made from a file
    with serving(
        make_tiny(folder / "tiny"), folder / "log", *options, environment=environment
    ) as server:
        yield server


def ways(key: str) -> list[str]:
    basic = base64.b64encode(f"anyone:{key}".encode()).decode()
    return [f"Bearer {key}", f"bearer  {key}", key, f"Basic {basic}"]


def test_every_route_asks_for_the_key(tmp_path: Path, locked: Serving) -> None:
    """The test iterates over the application's own routes, so that it includes new ones."""
    with Embedder.load(make_tiny(tmp_path / "tiny")) as embedder:
        routes = create_app(embedder, ServeOptions(api_keys=("k",))).routes
    paths = {route.path.replace("{id:path}", "tiny") for route in routes}  # type: ignore[attr-defined]
    assert len(routes) == len(OPERATIONS)
    assert paths > PROBES
    for path in [*paths, "/nothing", "/v1/nothing", "//embed", "/live/", "/live/../embed", "/LIVE"]:
        for method in ("GET", "POST", "PUT", "OPTIONS"):
            request = httpx.Request(method, locked.url + path)
            answer = locked.http.send(request)
            assert (answer.status_code == 401) == (path not in PROBES), (method, path)


def test_requests_without_a_key_are_counted(locked: Serving) -> None:
    def count(route: str) -> float:
        headers = {"authorization": KEYS[0]}
        for line in locked.get("/metrics", headers=headers).text.splitlines():
            if line.startswith(f'embedrt_requests_total{{route="{route}",status="401"}}'):
                return float(line.split()[-1])
        return 0

    before = count("/embed"), count("other")
    answers = [locked.post("/embed", {}), locked.get("/nothing"), locked.get("/neither")]
    assert (count("/embed"), count("other")) == (before[0] + 1, before[1] + 2)
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3


@pytest.mark.parametrize("key", [*KEYS, "third-key"])
def test_keys(locked: Serving, key: str) -> None:
    for way in ways(key):
        headers = {"authorization": way}
        answer = locked.post("/embed", {"inputs": "w1"}, headers=headers)
        assert (answer.status_code, way) == (200, way)


@pytest.mark.parametrize(
    "way",
    [
        "", "Bearer", "Bearer first-ke", "Bearer first-key2", "first-key,second-key",
        "Bearer first-key second-key", "Basic", "Basic first-key", "Basic YTpi", "Digest first-key",
        "Basic \xe9",
    ],
)  # fmt: skip
def test_other_keys(locked: Serving, way: str) -> None:
    headers = {"authorization": way.encode("latin-1")}
    answer = locked.post("/embed", {"inputs": "w1"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert answer.json()["error_type"] == "Validation"


def test_openai(locked: Serving) -> None:
    client = openai.OpenAI(base_url=f"{locked.url}/v1", api_key="second-key", max_retries=0)
    assert client.embeddings.create(model="any", input="w1").data
    with pytest.raises(openai.AuthenticationError) as raised:
        client.with_options(api_key="wrong").embeddings.create(model="any", input="w1")
    assert raised.value.code == "invalid_api_key"


def test_the_log_contains_no_text_and_no_key(locked: Serving) -> None:
    headers = {"authorization": "Bearer first-key"}
    for path in ("/v1/embeddings", "/embed", "/vectors", "/tokenize", "/similarity", "/"):
        for fields in (
            {"input": SECRET, "inputs": SECRET, "text": SECRET},
            {"input": SECRET, "inputs": SECRET, "text": SECRET, "prompt_name": SECRET},
            {"input": [SECRET, 3], "inputs": [SECRET, 3], "text": [SECRET]},
            {"inputs": SECRET * 50, "input": SECRET * 50, "text": SECRET},  # too large
            {"inputs": {"source_sentence": SECRET, "sentences": [SECRET]}},
        ):
            locked.post(path, fields, headers=headers)
    locked.http.post(locked.url + "/embed", content=SECRET, headers=headers)
    locked.get(f"/v1/models/{SECRET}", headers=headers)
    locked.get(f"/{SECRET}", headers=headers)
    log = locked.log()
    assert "1 texts, length:hash 27:" in log  # all that may be logged, at debug level
    assert "POST /embed 413" in log
    assert "secret" not in log
    assert "-key" not in log


def test_keys_that_are_invalid_in_a_header() -> None:
    for key in ("", " ", "a\nb", "é"):
        with pytest.raises(ValueError, match="no HTTP header can carry"):
            ServeOptions(api_keys=(key,))


class TestCors:
    def test_off(self, server: Serving) -> None:
        origin = {"origin": "https://example.org"}
        answer = server.post("/embed", {"inputs": "a"}, headers=origin)
        assert not [name for name in answer.headers if name.startswith("access-control")]

    def test_enabled(self, tmp_path: Path) -> None:
        bundle = make_tiny(tmp_path / "tiny")
        environment = {
            "EMBEDRT_CORS_ORIGINS": "https://example.com, https://example.org",
            "EMBEDRT_API_KEY": "k",
        }
        with serving(bundle, tmp_path / "log", environment=environment) as server:
            headers = {
                "origin": "https://example.org",
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,x-stainless-os",
            }
            preflight = server.http.options(server.url + "/embed", headers=headers)
            assert preflight.headers["access-control-allow-origin"] == "https://example.org"
            allowed = preflight.headers["access-control-allow-headers"]
            assert {"authorization", "x-stainless-os"} <= set(allowed.split(","))
            other = server.http.options(
                server.url + "/embed", headers={**headers, "origin": "https://example.net"}
            )
            assert other.status_code == 400
            assert "access-control-allow-origin" not in other.headers


def test_errors_of_one_client_never_quote_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error's message quotes texts of the batch."""
    import asyncio

    caplog.set_level(logging.DEBUG)
    with Embedder.load(make_tiny(tmp_path / "tiny")) as embedder:

        async def fail(*_: object, **__: object) -> None:
            raise RuntimeError(SECRET)

        monkeypatch.setattr(embedder, "aembed", fail)
        transport = httpx.ASGITransport(create_app(embedder))

        async def main() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.post("/v1/embeddings", json={"input": "w1"})

        answer = asyncio.run(main())
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text + caplog.text
    assert "a request failed: RuntimeError" in caplog.text
