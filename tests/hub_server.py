"""A local model hub with the routes that huggingface_hub uses, serving local folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class Repository:
    """One model: its files, and the commits of its branches and tags."""

    folder: Path
    commits: Mapping[str, str]
    withheld: Collection[str] = ()
    """Files that are listed but not sent."""

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


@contextmanager
def serve(repositories: Mapping[str, Repository]) -> Iterator[Hub]:
    """Serve repositories by id until the block ends."""
    hub = Hub(repositories)

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
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

    def do_GET(self) -> None:
        self.served.requests.append(f"{self.command} {self.path}")
        match unquote(self.path.partition("?")[0]).strip("/").split("/"):
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

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

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
        etag = hashlib.sha256(content).hexdigest()
        self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def _find(self, id_: str, revision: str) -> tuple[Path, str] | None:
        repository = self.served.repositories.get(id_)
        if repository is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        commit = repository.commit(revision)
        if commit is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return repository.folder, commit

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _files(folder: Path) -> dict[str, int]:
    """Return the files of a repository with their sizes in bytes."""
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
