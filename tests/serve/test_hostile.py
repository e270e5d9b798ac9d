"""Tests that malicious requests get a 4xx in the route's format, and the next request works."""

from __future__ import annotations

import json
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedrt import Reranker
from serving import Serving, serving
from tiny_bundle import make_tiny
from waiting import wait_until

EXAMPLES = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FEW, MANY = 300, 1_500  # generated bodies, by default and in the slow tests
TEXTS_OF = {
    "/v1/embeddings": "input",
    "/embeddings": "input",
    "/embed": "inputs",
    "/": "inputs",
    "/tokenize": "inputs",
    "/vectors": "texts",
}
POSTS = [*TEXTS_OF, "/similarity", "/decode", "/embed_all", "/predict", "/v2/rerank"]
COHERE = ("/v1/rerank", "/v2/rerank")
RANKS = [*COHERE, "/rerank", "/predict", "/", "/tokenize", "/embed"]
REFUSALS = {400, 404, 405, 413, 415, 422, 424}
FIELDS = [
    "input", "inputs", "text", "texts", "config", "parameters", "ids", "encoding_format",
    "dimensions", "normalize", "truncate", "truncation_direction", "prompt_name", "input_type",
    "task", "add_special_tokens", "skip_special_tokens", "source_sentence", "sentences",
    "task_type", "pooling_strategy", "model", "user", "query", "documents", "top_n", "raw_scores",
    "return_text", "return_documents", "rank_fields", "property",
]  # fmt: skip
GOOD = ["w1", "float", "base64", "Left", "query", "passage", "mean", "w1 " * 50, "retrieval.query"]

strings = st.text(max_size=30) | st.sampled_from(GOOD)
scalars: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | strings | st.integers(-(10**30), 10**30) | st.floats() | st.just([])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)


def as_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Generate JSON with surrogates, NaN or repeated names, possibly truncated or corrupted."""
    value = draw(objects | values)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), allow_nan=True)
    if text.startswith("{") and len(text) > 2 and draw(st.booleans()):
        text = text[:-1] + "," + text[1:]  # repeats each name
    body = text.encode("utf-8", "surrogatepass")
    change = draw(st.sampled_from(["none", "none", "none", "cut", "flip", "surrogate", "huge"]))
    if change == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if change == "flip" and body:
        place = draw(st.integers(0, len(body) - 1))
        return body[:place] + bytes([draw(st.integers(0, 255))]) + body[place + 1 :]
    if change == "surrogate":
        return body.replace(b'"w1', b'"\\ud83d w1').replace(b"null", b'"\\uDC00"')
    if change == "huge":
        return body.replace(b"0", b"9" * 5000).replace(b"true", b"[" * 5000 + b"]" * 5000)
    return body


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("target")
    bundle = make_tiny(folder / "tiny", prompts={"query": "w3 "})
    options = ["--max-body-mb", "0.05", "--max-texts", "20", "--read-timeout", "20"]
    with serving(bundle, folder / "log", *options) as server:
        yield server
        assert works(server)
        assert " error " not in server.log()
        assert " 500 " not in server.log()


@pytest.fixture(scope="module")
def ranker(
    rerankers: Path, reranker: Reranker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    log = tmp_path_factory.mktemp("ranker") / "log"
    options = ["--max-body-mb", "0.05", "--max-texts", "20", "--read-timeout", "20"]
    with serving(rerankers / "one", log, *options) as server:
        yield server
        (found,) = server.post("/rerank", {"query": "a", "texts": ["b"]}).json()
        assert np.float32(found["score"]) == reranker.predict(("a", "b"), activation_fn="Sigmoid")
        assert " error " not in server.log()
        assert " 500 " not in server.log()


def works(server: Serving) -> bool:
    answer = server.post("/embed", {"inputs": "w1", "normalize": False})
    return bool(answer.json() == [[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]])


def check_error(path: str, answer: Any) -> None:
    """Assert that an error has the format that clients of the route expect."""
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()
    if path in ("/v1/embeddings", "/embeddings"):
        assert error["error"].keys() == {"message", "type", "param", "code"}
    elif path in COHERE:
        assert error.keys() == {"message", "detail"}
    elif path == "/vectors":
        assert error.keys() == {"error"}
    else:
        assert error.keys() == {"error", "error_type"}


@settings(EXAMPLES, max_examples=FEW)
@given(path=st.sampled_from(POSTS), body=bodies())
def test_bodies(target: Serving, path: str, body: bytes) -> None:
    check_body(target, path, body)


@pytest.mark.slow
@settings(EXAMPLES, max_examples=MANY)
@given(path=st.sampled_from(POSTS), body=bodies())
def test_many_more_bodies(target: Serving, path: str, body: bytes) -> None:
    check_body(target, path, body)


def check_body(target: Serving, path: str, body: bytes) -> None:
    answer = target.http.post(target.url + path, content=body)
    if answer.status_code != 200:
        assert answer.status_code in REFUSALS
        check_error(path, answer)


# Fields of rerankers that are right by chance too seldom.
likely = st.fixed_dictionaries(
    {},
    optional={
        "query": st.text(max_size=5) | scalars,
        "texts": st.lists(st.text(max_size=5) | scalars, max_size=4) | scalars,
        "documents": st.lists(
            st.text(max_size=5) | scalars | st.fixed_dictionaries({"text": strings | scalars}),
            max_size=4,
        ),
        "inputs": st.lists(st.lists(st.text(max_size=5) | scalars, max_size=3), max_size=3),
        "property": st.text(max_size=5) | scalars,
        "top_n": st.integers(-1, 10**30) | scalars,
        "raw_scores": st.booleans() | scalars,
        "return_text": st.booleans() | scalars,
        "return_documents": st.booleans() | scalars,
    },
)


@settings(EXAMPLES, max_examples=FEW)
@given(path=st.sampled_from(RANKS), body=bodies() | likely.map(as_json))
def test_bodies_for_a_reranker(ranker: Serving, path: str, body: bytes) -> None:
    check_ranking(ranker, path, body)


@pytest.mark.slow
@settings(EXAMPLES, max_examples=MANY)
@given(path=st.sampled_from(RANKS), body=bodies() | likely.map(as_json))
def test_many_more_bodies_for_a_reranker(ranker: Serving, path: str, body: bytes) -> None:
    check_ranking(ranker, path, body)


def check_ranking(ranker: Serving, path: str, body: bytes) -> None:
    answer = ranker.http.post(ranker.url + path, content=body)
    if answer.status_code == 200:
        return
    assert answer.status_code in REFUSALS
    if path in ("/rerank", "/") and (b'"documents"' in body or b'"property"' in body):
        known: list[Any] = [{"message", "detail"}, {"error"}, {"error", "error_type"}]
        assert answer.json().keys() in known
    else:
        check_error(path, answer)


@settings(EXAMPLES, max_examples=300)
@given(
    path=st.sampled_from(sorted(TEXTS_OF)),
    good=st.lists(st.text(max_size=5), max_size=5),
    bad=st.none() | st.booleans() | st.floats(allow_nan=False) | st.lists(st.text(max_size=3)),
    rest=st.lists(values, max_size=5),
)
def test_the_index_of_an_invalid_text(
    target: Serving, path: str, good: list[str], bad: object, rest: list[object]
) -> None:
    name = TEXTS_OF[path]
    if isinstance(bad, list) and not good and path != "/vectors":
        good = ["w1"]  # because a list of lists may be token ids
    texts = [text.encode("utf-8", "replace").decode() for text in good]
    body = json.dumps({name: [*texts, bad, *rest]}).encode()
    answer = target.http.post(target.url + path, content=body)
    # The values after it may be invalid JSON, such as NaN.
    if answer.status_code != 400 or path in ("/v1/embeddings", "/embeddings"):
        assert f"{name}[{len(texts)}] is " in answer.text or "not JSON" in answer.text
    assert answer.status_code in {400, 422}


# Complete requests and fragments that a connection may send.
PIECES = [
    b"POST /embed HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"GET /live HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.0\r\n", b"GET http://[::1/ HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /%ff%00 HTTP/1.1\r\n\r\n",
    b"HEAD /metrics HTTP/1.1\r\n\r\n", b"TRACE / HTTP/1.1\r\n\r\n", b"GET //..//x HTTP/9.9\r\n\r\n",
    b"host: a\r\n", b"host: b\r\nhost: c\r\n", b"content-length: 5\r\n", b"content-length: -1\r\n",
    b"content-length: 99999999999999999999\r\n", b"content-length: 36\r\n",
    b"content-length: 0x5\r\n",
    b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip, chunked\r\n",
    b"transfer-encoding: identity\r\n", b"expect: 100-continue\r\n", b"content-encoding: gzip\r\n",
    b"connection: close\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n", b"x: \xff\x00\r\n",
    b" folded\r\n", b"authorization: Basic ====\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\x00", b"\xff",
    b'5\r\n{"inp\r\n', b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"5;x=y\r\nabcde\r\n",
    b'{"inputs": "w1", "normalize": false}', b"{}", b"\x16\x03\x01\x02\x00\x01", b"a" * 3000,
]  # fmt: skip
STATUSES = {b"200", b"204", b"400", b"401", b"404", b"405", b"408", b"413", b"415", b"422", b"431"}


@settings(EXAMPLES, max_examples=200)
@given(
    pieces=st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=8),
    half_close=st.booleans(),
)
def test_bytes(target: Serving, pieces: list[bytes], half_close: bool) -> None:
    with target.connect() as connection:
        connection.settimeout(0.03 if not half_close else 10)
        received = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                received += part
        except (TimeoutError, ConnectionError, OSError):
            pass
    for line in received.split(b"\r\n"):
        if line.startswith(b"HTTP/1.1 "):
            assert line.split(b" ")[1] in STATUSES | {b"100"}
    assert works(target)


def test_a_compression_bomb(target: Serving) -> None:
    """A compressed body is refused without being read or decompressed."""
    import gzip

    bomb = gzip.compress(bytes(10_000_000))
    headers = {"content-encoding": "gzip"}
    answer = target.http.post(target.url + "/embed", content=bomb, headers=headers)
    assert answer.status_code == 415
    assert works(target)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
def test_no_file_left_for_a_connection(tmp_path: Path) -> None:
    with serving(make_tiny(tmp_path / "tiny"), tmp_path / "log") as server:
        pid = server.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, limits[1]))
        waiting = [server.connect() for _ in range(3)]
        wait_until(lambda: "no connection can be accepted" in server.log())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert server.post("/embed", {"inputs": "w1"}).status_code == 200
        assert server.log().count("Too many open files") == 1
        assert "Traceback" not in server.log()
        for connection in waiting:
            connection.close()
