"""Tests of the application as a part of a larger one, beside another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from embedrt import Embedder
from embedrt.serve import ServeOptions, create_app
from tiny_bundle import make_tiny


def test_two_in_one(tmp_path: Path) -> None:
    with Embedder.load(make_tiny(tmp_path / "tiny")) as embedder:
        locked = create_app(embedder, ServeOptions(api_keys=("k",), served_name="locked"))
        opened = create_app(embedder, ServeOptions(served_name="open"))
        app = Starlette(routes=[Mount("/locked", locked), Mount("/models/{name}", opened)])

        async def ask() -> dict[tuple[str, str], httpx.Response]:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                return {
                    (method, path): await client.request(method, path, json={"inputs": "w1"})
                    for method, path in EXPECTED
                }

        answers = asyncio.run(ask())
        found = {key: answer.status_code for key, answer in answers.items()}
        assert found == EXPECTED
        assert answers["PUT", "/models/x/v1/models/open"].headers["allow"] == "GET, HEAD"
        metrics = answers["GET", "/models/x/metrics"].text
    assert 'embedrt_requests_total{route="/embed",status="200"} 1.0' in metrics
    assert 'status="401"' not in metrics


EXPECTED = {
    ("GET", "/locked/health"): 200,
    ("POST", "/locked/embed"): 401,
    ("GET", "/locked/v1/models/locked"): 401,
    ("GET", "/locked/nothing"): 401,
    ("POST", "/models/x/embed"): 200,
    ("GET", "/models/x/v1/models/open"): 200,
    ("PUT", "/models/x/v1/models/open"): 405,
    ("GET", "/models/x/nothing"): 404,
    ("GET", "/models/x/metrics"): 200,
}
