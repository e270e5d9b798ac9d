"""A local model hub with the routes that huggingface_hub uses, serving local folders.

It accepts uploads if it has a folder for them, and fails on request: it closes connections, sends
wrong bytes, or moves a branch.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest
from huggingface_hub import constants, file_download


@dataclass(frozen=True, slots=True)
class Repository:
    """One model: its files, and the commits of its branches and tags."""

    folder: Path
    commits: Mapping[str, str]
    withheld: Collection[str] = ()
    """Files that are listed but not sent."""
    older: Mapping[str, Path] = field(default_factory=dict)
    """The folders of commits other than the last."""

    def folder_at(self, commit: str) -> Path:
        """Return the folder with the files of a commit."""
        return self.older.get(commit, self.folder)

    def commit(self, revision: str) -> str | None:
        """Return the commit that a branch, tag or commit id names."""
        return revision if revision in self.commits.values() else self.commits.get(revision)


@dataclass(slots=True)
class Hub:
    """A running hub."""

    repositories: Mapping[str, Repository]
    url: str = ""
    requests: list[str] = field(default_factory=list)
    """Method and path of each request, in order."""
    tokens: set[str] = field(default_factory=set)
    """The tokens of all requests, including "" if one had none."""
    uploads: Path | None = None
    """The folder for uploads; None refuses them."""
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """By file name, the number of bytes that the next requests get before a disconnect."""
    damaged: set[str] = field(default_factory=set)
    """Files that are sent with a wrong last byte."""
    starts: dict[str, list[int]] = field(default_factory=dict)
    """By file name, the first byte that each GET asks for: not 0 where a download is resumed."""
    described: Callable[[], object] = bool
    """A function to call after a repository's description was sent."""
    half_sent: Callable[[str], object] = bool
    """A function to call with the name of a file when half of it was sent."""


def ask(url: str, monkeypatch: pytest.MonkeyPatch, *, cache: Path | None = None) -> None:
    """Configure the client in this process to use the hub at `url`, and no cache but `cache`."""
    if cache is not None:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.delenv("SENTENCE_TRANSFORMERS_HOME", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):
        if hasattr(module, "HUGGINGFACE_CO_URL_TEMPLATE"):
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@contextmanager
def serve(repositories: Mapping[str, Repository], *, uploads: Path | None = None) -> Iterator[Hub]:
    """Serve repositories by id until the block ends."""
    hub = Hub(repositories, uploads=uploads)

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.01,))  # how soon it sees `shutdown`
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"
    _sending = ""

    def do_GET(self) -> None:
        match self._path():
            case ["api", "models", owner, name]:
                self._describe(f"{owner}/{name}", "main")
            case ["api", "models", owner, name, "revision", revision]:
                self._describe(f"{owner}/{name}", revision)
            case ["api", "models", owner, name, "tree", revision, *_]:
                self._list(f"{owner}/{name}", revision)
            case [owner, name, "resolve", revision, *path]:
                self._send_file(f"{owner}/{name}", revision, "/".join(path))
            case _:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET  # noqa: N815 - http.server requires the name

    def do_POST(self) -> None:
        path = self._path()
        body = self._body()
        if self.served.uploads is None:
            self._send(403, b'{"error": "Forbidden"}', {"Content-Type": "application/json"})
            return
        match path:
            case ["api", "repos", "create"]:
                self._create(json.loads(body))
            case ["api", "validate-yaml"]:
                self._send_json({"errors": [], "warnings": []})
            case ["api", "models", owner, name, "branch", branch]:
                self._branch(f"{owner}/{name}", branch)
            case ["api", "models", _, _, "preupload", _]:
                self._choose_modes(json.loads(body))
            case [_, _, "info", "lfs", "objects", "batch"]:
                self._accept_objects(json.loads(body))
            case ["api", "models", owner, name, "commit", revision]:
                self._commit(f"{owner}/{name}", revision, body)
            case _:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def do_PUT(self) -> None:
        (_, oid) = self._path()
        assert self.served.uploads is not None
        content = self._body()
        assert hashlib.sha256(content).hexdigest() == oid
        (self.served.uploads / oid).write_bytes(content)
        self._send(200, b"", {})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _path(self) -> list[str]:
        self.served.requests.append(f"{self.command} {self.path}")
        self.served.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
        return unquote(self.path.partition("?")[0]).strip("/").split("/")

    def _create(self, asked: dict[str, Any]) -> None:
        id_ = f"{asked['organization']}/{asked['name']}"
        if id_ in self.served.repositories:
            self._send(409, json.dumps({"url": f"{self.served.url}/{id_}"}).encode(), {})
            return
        assert self.served.uploads is not None
        empty = self.served.uploads / f"{asked['organization']}--{asked['name']}"
        empty.mkdir()
        (empty / ".gitattributes").write_bytes(b"*.bin filter=lfs\n")
        self._put(id_, Repository(empty, {"main": "0" * 40}))
        self._send_json({"url": f"{self.served.url}/{id_}", "name": id_})

    def _branch(self, id_: str, branch: str) -> None:
        known = self.served.repositories[id_]
        if branch in known.commits:
            self._send(409, b"{}", {})
            return
        self._put(id_, replace(known, commits={**known.commits, branch: known.commits["main"]}))
        self._send_json({})

    def _choose_modes(self, asked: dict[str, Any]) -> None:
        files = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith((".bin", ".onnx")) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for each in asked["files"]
        ]
        self._send_json({"files": files})

    def _accept_objects(self, asked: dict[str, Any]) -> None:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.served.url}/upload/{each['oid']}"}}}
            for each in asked["objects"]
        ]
        self._send_json({"transfer": "basic", "objects": objects})

    def _commit(self, id_: str, revision: str, body: bytes) -> None:
        known, uploads = self.served.repositories[id_], self.served.uploads
        assert uploads is not None
        number = str(len(known.older)).encode()
        commit = hashlib.sha1(number + body, usedforsecurity=False).hexdigest()
        folder = uploads / commit
        shutil.copytree(known.folder_at(known.commits[revision]), folder)
        for line in body.splitlines():
            match json.loads(line):
                case {"key": "file", "value": file}:
                    (folder / file["path"]).write_bytes(base64.b64decode(file["content"]))
                case {"key": "lfsFile", "value": file}:
                    shutil.copyfile(uploads / file["oid"], folder / file["path"])
        older = {**known.older, commit: folder}
        commits = {**known.commits, revision: commit}
        self._put(id_, replace(known, commits=commits, older=older))
        self._send_json({"commitUrl": f"{self.served.url}/{id_}", "commitOid": commit})

    def _put(self, id_: str, repository: Repository) -> None:
        self.served.repositories = {**self.served.repositories, id_: repository}

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""

    def _describe(self, id_: str, revision: str) -> None:
        found = self._find(id_, revision)
        if found is None:
            return
        folder, commit = found
        with_sizes = "blobs=" in self.path
        siblings = [
            {"rfilename": name, "size": size} if with_sizes else {"rfilename": name}
            for name, size in _files(folder).items()
        ]
        content = {"id": id_, "modelId": id_, "sha": commit, "siblings": siblings, "tags": []}
        self._send_json(content)
        self.served.described()

    def _list(self, id_: str, revision: str) -> None:
        found = self._find(id_, revision)
        if found is not None:
            self._send_json(
                [
                    {"type": "file", "path": name, "size": size, "oid": "0" * 40}
                    for name, size in _files(found[0]).items()
                ]
            )

    def _send_file(self, id_: str, revision: str, path: str) -> None:
        found = self._find(id_, revision)
        if found is None:
            return
        folder, commit = found
        if path in self.served.repositories[id_].withheld:
            self._send(403, b"", {"X-Repo-Commit": commit})
            return
        if not (folder / path).is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        content = (folder / path).read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        if path in self.served.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        if self.command == "GET":
            self.served.starts.setdefault(path, []).append(start)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cuts = self.served.cuts.get(path) if self.command == "GET" else None
        self._sending = path
        self._send(206 if start else 200, content[start:], headers, cuts.pop(0) if cuts else None)

    def _find(self, id_: str, revision: str) -> tuple[Path, str] | None:
        repository = self.served.repositories.get(id_)
        if repository is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        commit = repository.commit(revision)
        if commit is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return repository.folder_at(commit), commit

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(
        self, status: int, content: bytes, headers: Mapping[str, str], cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            half = len(content[:cut]) // 2
            self.wfile.write(content[:half])
            self.served.half_sent(self._sending)
            self.wfile.write(content[half:cut])
        self.close_connection = cut is not None


def _files(folder: Path) -> dict[str, int]:
    """Return the files of a repository with their sizes in bytes."""
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
