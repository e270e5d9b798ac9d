"""Tests of start and shutdown: ready only when it can embed, no request lost at the end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn

from embedrt import Embedder
from embedrt.cli import parse
from embedrt.serve import create_app
from embedrt.serve.lifecycle import Server, ServerOptions, config_of, listening
from embedrt.serve.limits import LimitedProtocol
from serving import Serving, serving, start
from tiny_bundle import make_tiny
from waiting import SECONDS, wait_until

LONG = [f"{number} {'word ' * 40}" for number in range(60)]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny(tmp_path / "tiny")


def refused(*arguments: str, **environment: str) -> str:
    """Return the stderr of a server that does not start."""
    command = [sys.executable, "-m", "embedrt", "serve", *arguments]
    ended = subprocess.run(
        command,
        capture_output=True,
        check=False,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=SECONDS,
    )
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    return ended.stderr


def ask(server: Serving, texts: list[str]) -> httpx.Response:
    return httpx.post(server.url + "/embed", json={"inputs": texts}, timeout=SECONDS)


def date(server: Serving) -> str:
    return httpx.get(server.url + "/live", timeout=SECONDS).headers["date"]


def ending(server: Serving, number: int = signal.SIGTERM) -> None:
    """Send a signal, and wait until the server has noted it."""
    server.process.send_signal(number)
    wait_until(lambda: "ending, with" in server.log())


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_idle(self, tiny: Path, tmp_path: Path, number: int) -> None:
        server = start(tiny, tmp_path / "log")
        assert server.get("/ready").status_code == 200
        server.http.close()
        begin = time.monotonic()
        assert server.end(number) == 0
        assert time.monotonic() - begin < 25  # the grace, which it does not wait for, is 30 s
        assert "error" not in server.log()

    def test_requests_are_finished(self, minilm: Path, embedder: Embedder, tmp_path: Path) -> None:
        """Requests that run, that wait, and that are still being received get answers."""
        options = ["--threads", "1", "--cache-mb", "0"]
        with serving(minilm, tmp_path / "log", *options, held=True, farewell=600) as server:
            body = json.dumps({"inputs": "late"}).encode()
            late = server.connect()
            head = b"POST /embed HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
            late.sendall(head % len(body) + body[:5])
            groups = [LONG[start : start + 12] for start in range(0, 60, 12)]
            before = server.texts()
            with ThreadPoolExecutor(len(groups)) as pool:
                with server.holding():
                    asked = [pool.submit(ask, server, texts) for texts in groups]
                    wait_until(lambda: server.texts() == before + len(LONG))
                    arrived = date(server)
                    wait_until(lambda: date(server) != arrived)  # a second begins
                    ending(server)
                    late.sendall(body[5:])
                answers = [future.result() for future in asked]
            assert b"HTTP/1.1 200 OK" in late.recv(1000)
            late.close()
            assert server.process.wait(SECONDS) == 0
        for texts, answer in zip(groups, answers, strict=True):
            assert answer.headers["connection"] == "close"
            found = np.array(answer.json(), np.float32)
            assert found.tobytes() == embedder.encode(texts).tobytes()

    def test_connections_that_wait_to_be_accepted_are_served(self, tiny: Path) -> None:
        """A client's connection is made by the system before the server knows of it."""

        async def end(server: Server, listener: socket.socket) -> bytes:
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup(sockets=[listener])
            # Both block the loop, which accepts nothing in the meantime.
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"GET /live HTTP/1.1\r\nhost: a\r\n\r\n")
                await server._stop_listening([listener])
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(listener_address)
                return await asyncio.to_thread(client.recv, 1000)

        with Embedder.load(tiny) as embedder, socket.create_server(("127.0.0.1", 0)) as listener:
            listener_address = listener.getsockname()
            app = create_app(embedder)
            protocol = partial(LimitedProtocol, read_seconds=SECONDS)
            config = uvicorn.Config(
                app,
                http=protocol,  # type: ignore[arg-type]
                lifespan="off",
                log_config=None,
            )
            answer = asyncio.run(end(Server(config, app.state.service.health), listener))
        assert answer.startswith(b"HTTP/1.1 200 ")

    def test_not_ready_while_ending(self, minilm: Path, tmp_path: Path) -> None:
        options = ["--threads", "1"]
        with serving(minilm, tmp_path / "log", *options, held=True, farewell=600) as server:
            assert server.get("/ready").status_code == 200  # keeps its connection
            before = server.texts()
            asking = threading.Thread(target=ask, args=[server, LONG])
            with server.holding():
                asking.start()
                wait_until(lambda: server.texts() == before + len(LONG))
                ending(server)
                answer = server.get("/ready")
            assert (answer.status_code, answer.headers["connection"]) == (503, "close")
            assert answer.json() == {
                "error": "the server is shutting down", "error_type": "Unhealthy",
            }  # fmt: skip
            asking.join()
            server.http.close()
            assert server.process.wait(SECONDS) == 0

    def test_a_request_longer_than_the_grace(self, minilm: Path, tmp_path: Path) -> None:
        """It is answered with an error while it still runs, and the server ends."""
        options = ["--threads", "1", "--grace", "1", "--cache-mb", "0"]
        with serving(minilm, tmp_path / "log", *options, held=True) as server:
            before = server.texts()
            with ThreadPoolExecutor(1) as pool, server.holding():
                asked = pool.submit(ask, server, LONG)
                wait_until(lambda: server.texts() == before + len(LONG))
                server.process.send_signal(signal.SIGTERM)
                answer = asked.result()
            assert server.process.wait(SECONDS) == 0
            assert (answer.status_code, answer.json()["error_type"]) == (503, "Unhealthy")

    def test_a_second_signal_ends_immediately(self, minilm: Path, tmp_path: Path) -> None:
        """It does not wait for the requests, one of which would take forever."""
        with serving(minilm, tmp_path / "log", "--threads", "1", held=True) as server:
            before = server.texts()
            connection = server.connect()
            body = json.dumps({"inputs": LONG}).encode()
            head = b"POST /embed HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
            with server.holding():
                connection.sendall(head % len(body) + body)
                wait_until(lambda: server.texts() == before + len(LONG))
                ending(server)
                assert "ended" not in server.log()
                begin = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                wait_until(lambda: "ended" in server.log())
                assert time.monotonic() - begin < 25  # the grace is 30 s
            assert server.process.wait(SECONDS) == 0
            connection.close()


class TestStart:
    def test_the_address_is_in_use(self, tiny: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = str(other.getsockname()[1])
            said = refused(str(tiny), "--port", port)
        assert f"cannot listen on 127.0.0.1:{port}: " in said
        assert "choose another --host or --port" in said

    def test_no_bundle(self, tmp_path: Path) -> None:
        assert "nowhere" in refused(str(tmp_path / "nowhere"), "--port", "0")

    def test_a_bundle_that_fails_its_probes(self, tmp_path: Path) -> None:
        probes = json.dumps([{"text": "w1", "embedding": [9.0] * 10}])
        said = refused(str(make_tiny(tmp_path / "tiny", probes=probes)), "--port", "0")
        assert "gives vectors that differ" in said

    def test_without_the_extra(self, tiny: Path, tmp_path: Path) -> None:
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules" / "uvicorn.py").write_text(
            "raise ModuleNotFoundError(name='uvicorn')", encoding="utf-8"
        )
        path = os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")])
        said = refused(str(tiny), PYTHONPATH=path)
        assert said == "embedrt: serve needs uvicorn; install it: pip install 'embedrt[serve]'\n"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--port", "99999"], "port=99999; expected 0 to 65535"),
            (["--port", "x"], "argument --port: invalid int value: 'x'"),
            (["--host", "no.such.host.invalid", "--port", "0"], "cannot listen on no.such.host"),
            (["--max-texts", "0"], "max_texts=0; expected at least 1"),
            (["--timeout", "-1"], "timeout=-1.0; expected at least"),
            (["--max-body-mb", "inf"], "max_body_mb=inf; expected a finite number"),
            (["--max-body-mb", "1e308"], "max_body_mb=1e+308; expected at most 1e+15"),
            (["--cache-mb", "inf"], "cache_mb=inf; expected a finite number"),
            (["--cache-mb", "1e308"], "cache_mb=1e+308; expected at most 1e+15"),
            (["--grace", "inf"], "grace=inf; expected a finite number"),
            (["--api-key-file", "/nowhere"], "/nowhere"),
            (["--api-key-file", os.devnull], "is empty; write a key to it"),
            (["--tiktoken", __file__, "--port", "0"], "line 1 is not a token and its rank"),
        ],
    )
    def test_wrong_options(self, tiny: Path, options: list[str], message: str) -> None:
        assert message in refused(str(tiny), *options)

    def test_options_of_the_environment(self, tiny: Path, tmp_path: Path) -> None:
        environment = {
            "EMBEDRT_SERVED_NAME": "from the environment",
            "EMBEDRT_MAX_TEXTS": "3",
            "EMBEDRT_LOG_FORMAT": "json",
            "EMBEDRT_MAX_WAITING_TOKENS": "77",
        }
        with serving(tiny, tmp_path / "log", "--max-texts", "4", environment=environment) as server:
            facts = server.get("/info").json()
            assert facts["served_model_name"] == "from the environment"
            assert (facts["max_client_batch_size"], facts["max_batch_tokens"]) == (4, 77)
            server.post("/embed", {})
            wait_until(lambda: len(server.log().splitlines()) == 2)  # written after the answer
            first, second = map(json.loads, server.log().splitlines())
        assert first["message"] == f"serving on {server.url}"
        assert re.fullmatch(r"POST /embed 422 \d+\.\d ms [0-9a-f]{16}", second["message"])
        assert (second["level"], second["logger"]) == ("info", "embedrt.serve")

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("EMBEDRT_PORT", "x", "EMBEDRT_PORT holds an invalid int value: 'x'"),
            ("EMBEDRT_LOG_FORMAT", "xml", "LOG_FORMAT is 'xml'; expected one of text, json"),
            ("EMBEDRT_LOG_LEVEL", "verbose", "LOG_LEVEL is 'verbose'; expected one of debug, info"),
        ],
    )
    def test_wrong_options_of_the_environment(
        self, tiny: Path, name: str, value: str, message: str
    ) -> None:
        assert message in refused(str(tiny), **{name: value})

    def test_the_variable_of_a_kubernetes_service(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Kubernetes sets it for a Service that is called embedrt."""
        monkeypatch.setenv("EMBEDRT_PORT", "tcp://10.0.0.1:80")
        assert parse(["serve", "BUNDLE"]).port == 8080

    def test_a_unix_socket(self, tiny: Path, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))  # left by a server that was killed
        with serving(tiny, tmp_path / "log", "--uds", str(path)) as server:
            assert not stat.S_IMODE(path.stat().st_mode) & stat.S_IWOTH
            transport = httpx.HTTPTransport(uds=str(path))
            with httpx.Client(transport=transport, timeout=SECONDS) as client:
                answer = client.post("http://server/embed", json={"inputs": "w1"})
            assert answer.status_code == 200
            assert "choose another --uds" in refused(str(tiny), "--uds", str(path))
            assert server.end() == 0
        assert not path.exists()

    def test_a_unix_socket_of_a_successor(self, tiny: Path, tmp_path: Path) -> None:
        """A server that ends leaves the socket of one that has started meanwhile."""
        path = tmp_path / "socket"
        with listening(ServerOptions(uds=path)) as old:
            old.listen()
            old.listener.close()  # as at the end, while requests are still answered
            with serving(tiny, tmp_path / "log", "--uds", str(path)):
                old.close()
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))

    @pytest.mark.parametrize("options", [ServerOptions(port=0), ServerOptions(uds=Path("%s"))])
    def test_two_that_start_at_the_same_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: ServerOptions
    ) -> None:
        """The address of a server that still loads its bundle looks free."""
        monkeypatch.chdir(tmp_path)
        with listening(options) as one:
            port = one.listener.getsockname()[1]
            same = options if options.uds else ServerOptions(port=port)
            with listening(same) as other:
                other.listen()
                with pytest.raises(OSError, match=r"cannot listen on (127.0.0.1:|%s: ).*; choose"):
                    one.listen()
                one.close()
                with socket.socket(other.listener.family) as client:
                    client.connect(other.listener.getsockname())

    @pytest.mark.parametrize(
        ("host", "key", "warned"), [("0.0.0.0", "", True), ("0.0.0.0", "k", False)]
    )
    def test_open_to_the_network(
        self, tiny: Path, tmp_path: Path, host: str, key: str, warned: bool
    ) -> None:
        environment = {"EMBEDRT_HOST": host, "EMBEDRT_API_KEY": key}
        with serving(tiny, tmp_path / "log", environment=environment) as server:
            assert ("no API key: anyone who can reach http://0.0.0.0:" in server.log()) == warned
            answer = httpx.get(f"http://127.0.0.1:{server.port}/ready", timeout=SECONDS)
            assert answer.status_code == 200

    def test_root_path(self, tiny: Path, tmp_path: Path) -> None:
        """A proxy strips the path from requests, or leaves it."""
        options = ["--root-path", "models/tiny/", "--served-name", "counts"]
        with serving(tiny, tmp_path / "log", *options) as server:
            for root in ("", "/models/tiny"):
                assert server.post(f"{root}/embed", {"inputs": "w1"}).status_code == 200
                assert server.get(f"{root}/v1/models/counts").status_code == 200
                assert server.get(f"{root}/nothing").status_code == 404
            assert server.get("/models/tinyembed").status_code == 404

    @pytest.mark.skipif(not Path("/proc/self/net/tcp6").exists(), reason="needs IPv6")
    @pytest.mark.parametrize("host", ["::1", "[::1]"])
    def test_ipv6(self, tiny: Path, tmp_path: Path, host: str) -> None:
        with serving(tiny, tmp_path / "log", "--host", host) as server:
            assert server.url.startswith("http://[::1]:")
            assert server.get("/live").status_code == 200


def test_idle_connections_outlive_those_of_proxies(tiny: Path) -> None:
    """Proxies (nginx, AWS) keep theirs for 60 seconds, and Go's clients for 90."""
    with Embedder.load(tiny) as embedder:
        assert config_of(create_app(embedder), ServerOptions()).timeout_keep_alive > 90


def test_import_embedrt_does_not_load_the_server() -> None:
    code = "import sys, embedrt.cli; print({'uvicorn', 'starlette', 'orjson'} & set(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, encoding="utf-8"
    )
    assert ended.stdout == "set()\n"
