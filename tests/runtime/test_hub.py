"""Tests of pushing bundles to a hub and pulling them, including failures on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

from embedrt import Bundle, Embedder
from embedrt.cli import main
from embedrt.errors import (
    BundleCorruptError,
    BundleFormatError,
    BundleNotFoundError,
    ExportError,
    HubError,
)
from embedrt.hub.place import Place, noted_place
from embedrt.hub.pull import pull
from embedrt.hub.push import push
from hub_server import Hub, Repository, ask, serve
from tiny_bundle import make_tiny

ID = "someone/tiny"
CLOSED = "http://127.0.0.1:9"
OLD, NEW = "a" * 40, "b" * 40
# Until 1.17, huggingface_hub keeps the part of a file that a failed download has received; since
# 1.20, a download asks for the rest of it when the server closes the connection.
CLIENT = tuple(map(int, huggingface_hub.__version__.split(".")[:2]))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the tiny bundle, used by the client in this process, which has an empty cache."""
    first = make_tiny(tmp_path / "hub" / "first", name="first")
    second = make_tiny(tmp_path / "hub" / "second", name="second")
    (second / ".gitattributes").write_bytes(b"*.bin filter=lfs\n")
    (tmp_path / "uploads").mkdir()
    repository = Repository(second, {"main": NEW, "old": OLD}, older={OLD: first})
    with serve({ID: repository}, uploads=tmp_path / "uploads") as hub:
        ask(hub.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks LFS
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
        yield hub


def change(hub: Hub, **changes: Any) -> None:
    hub.repositories = {ID: replace(hub.repositories[ID], **changes)}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name[0] != "."}


def named(tmp_path: Path) -> list[str]:
    """Return the names in the bundle cache, without lock files."""
    assets = tmp_path / "home" / "assets" / "embedrt"
    return sorted(file.name for file in assets.glob("*/*") if not file.name.endswith(".lock"))


class TestPull:
    def test_into_the_cache(self, hub: Hub, tmp_path: Path) -> None:
        pulled = pull(ID)
        assert str(pulled.place) == f"hub:{ID}@{NEW}"
        assert pulled.folder.is_relative_to(tmp_path / "home")
        assert contents(pulled.folder) == contents(hub.repositories[ID].folder)
        assert noted_place(pulled.folder) == pulled.place
        assert noted_place(hub.repositories[ID].folder) is None

    @pytest.mark.usefixtures("hub")
    def test_to_a_folder_of_its_own(self, tmp_path: Path) -> None:
        pulled = pull(ID, revision="old", output=tmp_path / "out")
        assert pulled.folder == tmp_path / "out"
        assert Bundle.open(pulled.folder, verify="sha256").manifest.name == "first"
        assert pull(f"{ID}@main", output=tmp_path / "out").folder == tmp_path / "out"
        assert Bundle.open(tmp_path / "out").manifest.name == "second"
        assert all(not file.is_symlink() for file in (tmp_path / "out").iterdir())
        before = contents(tmp_path / "out")
        for file in (tmp_path / "home").rglob("*"):
            if file.is_file():
                file.write_bytes(b"other")
        assert contents(tmp_path / "out") == before

    def test_not_into_a_folder_of_other_files(self, hub: Hub, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        with pytest.raises(ExportError, match="exists and is not a bundle"):
            pull(ID, output=tmp_path / "out")
        assert hub.requests

    def test_load(self, hub: Hub) -> None:
        with Embedder.load(f"hub:{ID}@{NEW}") as embedder:
            assert np.array_equal(embedder.encode("w1 w1"), 2 * np.eye(10, dtype=np.float32)[1])
            assert embedder.manifest.name == "second"
        asked = len(hub.requests)
        with Embedder.load(f"hub:{ID}@{NEW}") as embedder:
            assert embedder.manifest.name == "second"
        assert len(hub.requests) == asked
        assert Embedder.load(f"hub:{ID}@old").manifest.name == "first"

    @pytest.mark.usefixtures("hub")
    def test_bench(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", f"hub:{ID}@{NEW}", "--quick"]) == 0
        assert capsys.readouterr().out.startswith("second, fp32\n")

    @pytest.mark.parametrize("path", [ID, f"{ID}@{NEW}", Path(f"hub:{ID}"), f"./hub:{ID}"])
    def test_a_path_stays_one(
        self, hub: Hub, path: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(BundleNotFoundError, match="there is no bundle at"):
            Embedder.load(path)
        assert hub.requests == []

    @pytest.mark.parametrize("place", ["tiny", "a/b/c", "", "a/b@", "../x", "a b/c"])
    def test_invalid_ids(self, hub: Hub, place: str) -> None:
        with pytest.raises(ValueError, match="expected org/name"):
            Embedder.load(f"hub:{place}")
        assert hub.requests == []

    def test_two_revisions(self) -> None:
        with pytest.raises(ValueError, match="names a revision already"):
            Place.parse(f"{ID}@main", "old")

    def test_a_moved_branch(self, hub: Hub) -> None:
        change(hub, commits={"main": OLD})
        first = pull(ID)
        change(hub, commits={"main": NEW})
        second = pull(ID)
        names = [Bundle.open(each.folder).manifest.name for each in (first, second)]
        assert names == ["first", "second"]
        assert Embedder.load(str(first.place)).manifest.name == "first"

    def test_a_branch_that_moves_during_the_pull(self, hub: Hub) -> None:
        change(hub, commits={"main": OLD})
        hub.described = lambda: change(hub, commits={"main": NEW, "before": OLD})
        pulled = pull(ID)
        assert pulled.place.revision == OLD
        assert Bundle.open(pulled.folder).manifest.name == "first"

    def test_version_1(self, hub: Hub) -> None:
        old = Path(__file__).parents[1] / "data" / "version_1" / "fp32"
        change(hub, folder=old)
        assert contents(pull(ID).folder) == contents(old)


class TestRefused:
    def refuse(self, tmp_path: Path, error: type[Exception], words: str) -> str:
        """Assert that a pull fails and leaves no bundle in the cache or at the output path."""
        with pytest.raises(error, match=words) as caught:
            pull(ID)
        assert named(tmp_path) == []
        with pytest.raises(error, match=words):
            pull(ID, output=tmp_path / "out" / "bundle")
        assert not list(tmp_path.glob("out/*")) + list(tmp_path.glob("out/.*"))
        assert f"hub:{ID}@{NEW}" in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            (["modules.json", "model.safetensors"], f"sentence-transformers model; .* export {ID}"),
            (["b.txt", "a.txt"], r"no manifest\.json \(it has a\.txt, b\.txt\)"),
            ([], "it has nothing"),
        ],
    )
    def test_not_a_bundle(self, hub: Hub, tmp_path: Path, files: list[str], words: str) -> None:
        folder = tmp_path / "other"
        folder.mkdir()
        for name in files:
            (folder / name).write_bytes(b"x")
        change(hub, folder=folder)
        self.refuse(tmp_path, BundleNotFoundError, words)
        assert not [line for line in hub.requests if "resolve" in line]

    def test_a_newer_format(self, hub: Hub, tmp_path: Path) -> None:
        file = hub.repositories[ID].folder / "manifest.json"
        manifest = {**json.loads(file.read_text(encoding="utf-8")), "format_version": 99}
        file.write_text(json.dumps(manifest), encoding="utf-8")
        self.refuse(tmp_path, BundleFormatError, "format_version 99")
        assert not [line for line in hub.requests if "model.onnx" in line]

    @pytest.mark.parametrize("how", ["missing", "longer"])
    def test_files_of_another_size(self, hub: Hub, tmp_path: Path, how: str) -> None:
        file = hub.repositories[ID].folder / "model.onnx"
        if how == "missing":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes() + b"x")
        self.refuse(tmp_path, BundleCorruptError, r"model\.onnx has \d+ bytes")
        assert not [line for line in hub.requests if "resolve" in line and "manifest" not in line]

    @pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "probes.json"])
    def test_wrong_bytes(self, hub: Hub, tmp_path: Path, name: str) -> None:
        hub.damaged = {name}
        self.refuse(tmp_path, BundleCorruptError, f"refused: {name} has sha256")
        hub.damaged = set()
        assert contents(pull(ID).folder) == contents(hub.repositories[ID].folder)

    def test_wrong_vectors(self, hub: Hub, tmp_path: Path) -> None:
        wrong = json.dumps([{"text": "w1", "embedding": [1.0] * 10}])
        change(hub, folder=make_tiny(tmp_path / "wrong", probes=wrong))
        self.refuse(tmp_path, BundleCorruptError, "differ by")

    @pytest.mark.usefixtures("hub")
    @pytest.mark.skipif(sys.platform == "win32", reason="has neither sh nor signals")
    def test_a_bundle_that_kills_its_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bundle is loaded in a child process, which ends here as if its graph crashed it."""
        program = tmp_path / "python"
        program.write_text("#!/bin/sh\nkill -SEGV $$\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        self.refuse(tmp_path, BundleCorruptError, "kills the process that loads it .SIGSEGV")


class TestConnections:
    @pytest.mark.skipif(CLIENT < (1, 20), reason="the client does not try again")
    def test_a_closed_connection_is_resumed(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10)  # bytes that are kept at a time
        hub.cuts = {"model.onnx": [100, 50], "tokenizer.json": [0]}
        assert contents(pull(ID).folder) == contents(hub.repositories[ID].folder)
        assert hub.starts["model.onnx"] == [0, 100, 150]
        assert hub.starts["tokenizer.json"] == [0, 0]
        assert hub.cuts == {"model.onnx": [], "tokenizer.json": []}

    def test_a_second_pull(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The client keeps whole files of a pull that fails, and some versions parts of files."""
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10)
        hub.cuts = {"weights.bin": [100]}

        def refuse_the_rest(name: str) -> None:
            if name == "weights.bin":
                change(hub, withheld={name})

        hub.half_sent = refuse_the_rest
        with pytest.raises(HubError, match="cannot be pulled"):
            pull(ID)
        assert named(tmp_path) == []
        hub.half_sent = bool
        change(hub, withheld=())
        assert contents(pull(ID).folder) == contents(hub.repositories[ID].folder)
        assert hub.starts["weights.bin"] == [0, 0 if CLIENT >= (1, 18) else 100]
        assert hub.starts["model.onnx"] == [0]
        assert not list((tmp_path / "home").rglob("*.incomplete"))

    def test_complete_files_are_not_fetched_again(self, hub: Hub, tmp_path: Path) -> None:
        change(hub, withheld={"weights.bin"})
        with pytest.raises(HubError, match="cannot be pulled"):
            pull(ID)
        assert named(tmp_path) == []
        change(hub, withheld=())
        before = len(hub.requests)
        pull(ID)
        again = [line for line in hub.requests[before:] if line.startswith("GET")]
        assert any("weights.bin" in line for line in again)
        assert not any("model.onnx" in line for line in again)

    @pytest.mark.parametrize("output", [[], ["--output", "out"]])
    def test_a_killed_pull_leaves_no_bundle(
        self, hub: Hub, tmp_path: Path, output: list[str]
    ) -> None:
        started = threading.Event()

        def kill(name: str) -> None:
            if name == "tokenizer.json":
                assert started.wait(60)
                pulling.kill()

        hub.half_sent = kill
        pulling = subprocess.Popen(
            [sys.executable, "-m", "embedrt", "pull", ID, *output],
            cwd=tmp_path,
            env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url},
            stderr=subprocess.DEVNULL,
        )
        started.set()
        assert pulling.wait(timeout=300) == -signal.SIGKILL
        assert named(tmp_path) == []
        assert not list(tmp_path.glob("out*"))
        hub.half_sent = bool
        assert contents(pull(ID).folder) == contents(hub.repositories[ID].folder)
        assert contents(pull(ID, output=tmp_path / "out").folder) == contents(
            hub.repositories[ID].folder
        )

    @pytest.mark.usefixtures("hub")
    @pytest.mark.parametrize("revision", [NEW, "main", None])
    def test_without_the_hub(self, revision: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        online = pull(ID, revision=revision)
        ask(CLOSED, monkeypatch)
        assert pull(ID, revision=revision) == online
        with pytest.raises(HubError, match=r"old cannot be pulled .*Check the network"):
            pull(ID, revision="old")

    @pytest.mark.usefixtures("hub")
    def test_without_the_hub_but_with_the_clients_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        online = pull(ID)
        shutil.rmtree(tmp_path / "home" / "assets")
        ask(CLOSED, monkeypatch)
        assert pull(ID) == online
        shutil.rmtree(tmp_path / "home" / "assets")
        next((tmp_path / "home" / "hub").rglob("tokenizer.json")).unlink()
        with pytest.raises(BundleCorruptError, match=r"tokenizer\.json is missing"):
            pull(ID)

    @pytest.mark.parametrize(("id_", "revision"), [("someone/else", None), (ID, "never")])
    def test_unknown(self, hub: Hub, id_: str, revision: str | None) -> None:
        with pytest.raises(HubError, match="Check the spelling"):
            pull(id_, revision=revision)
        assert hub.requests


class TestCache:
    def test_without_an_assets_cache(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without an assets cache, the client's own cache is used and verified each time."""
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "file" / "assets"))
        pulled = pull(ID)
        assert pulled.folder.is_relative_to(tmp_path / "home" / "hub")
        assert contents(pulled.folder) == contents(hub.repositories[ID].folder)
        ask(CLOSED, monkeypatch)
        assert Embedder.load(f"hub:{ID}").manifest.name == "second"

    def test_without_a_writable_cache(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        for name in ("HF_ASSETS_CACHE", "HF_HUB_CACHE"):
            monkeypatch.setattr(constants, name, str(tmp_path / "file" / name))
        with pytest.raises(HubError, match="set HF_HOME to a folder that can be written to"):
            pull(ID)
        assert hub.requests

    def test_a_damaged_bundle_is_made_again(self, hub: Hub) -> None:
        folder = pull(ID).folder
        (folder / "model.onnx").unlink()
        (folder / "model.onnx").write_bytes(b"short")
        assert contents(pull(ID, revision=NEW).folder) == contents(hub.repositories[ID].folder)

    def test_two_concurrent_pulls(self, hub: Hub, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "embedrt", "pull", ID]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            "HF_HOME": str(tmp_path / "home"),
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "hf_of_a_test",
        }
        both = [
            subprocess.Popen(
                [*command, *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            for arguments in ([], [], ["--output", str(tmp_path / "out")])
        ]
        printed = [process.communicate(timeout=300) for process in both]
        assert [process.returncode for process in both] == [0, 0, 0], printed
        assert {out.splitlines()[0] for out, _ in printed} == {f"hub:{ID}@{NEW}"}
        assert printed[0][0] == printed[1][0]
        for folder in (Path(printed[0][0].splitlines()[1]), tmp_path / "out"):
            assert contents(folder) == contents(hub.repositories[ID].folder)
        assert named(tmp_path) == [NEW]
        assert "hf_of_a_test" in hub.tokens
        offline = {**environment, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": CLOSED}
        run = subprocess.run(
            command, env=offline, capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert run.stdout == printed[0][0]


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the client's own
class TestPush:
    def test_push_and_pull(
        self, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle = make_tiny(tmp_path / "mine", name="mine")
        assert main(["push", str(bundle), "someone/new", "--private"]) == 0
        place = capsys.readouterr().out.strip()
        assert place.startswith("hub:someone/new@")
        commits = [line for line in hub.requests if "/commit/" in line]
        assert commits == ["POST /api/models/someone/new/commit/main"]
        assert main(["pull", place, "--output", str(tmp_path / "out")]) == 0
        assert capsys.readouterr().out.splitlines() == [place, str(tmp_path / "out")]
        assert contents(tmp_path / "out") == contents(bundle)
        assert main(["info", str(tmp_path / "out")]) == 0
        assert f"pulled      {place}\n" in capsys.readouterr().out

    @pytest.mark.usefixtures("hub")
    def test_again_and_to_a_branch(self, tmp_path: Path) -> None:
        bundle = make_tiny(tmp_path / "mine", name="mine")
        first = push(bundle, ID, revision="next")
        assert pull(ID).place.revision == NEW
        assert pull(ID, revision="next").place == first
        second = push(bundle, ID)
        assert pull(ID).place == second
        assert Bundle.open(pull(ID).folder).manifest.name == "mine"

    def test_not_over_a_model(self, hub: Hub, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        for name in ("README.md", "modules.json", "model.safetensors"):
            (tmp_path / "model" / name).write_bytes(b"x")
        change(hub, folder=tmp_path / "model")
        with pytest.raises(HubError, match=r"other files than a bundle's: model\.safetensors"):
            push(make_tiny(tmp_path / "mine"), ID)
        assert not [line for line in hub.requests if "/commit/" in line]

    def test_nothing_damaged(self, hub: Hub, tmp_path: Path) -> None:
        bundle = make_tiny(tmp_path / "mine")
        file = bundle / "tokenizer.json"
        file.write_bytes(file.read_bytes()[:-1] + b" ")
        with pytest.raises(BundleCorruptError, match="sha256"):
            push(bundle, ID)
        assert hub.requests == []

    def test_without_permission(self, hub: Hub, tmp_path: Path) -> None:
        hub.uploads = None
        with pytest.raises(HubError, match=r"cannot be pushed to hub:someone/tiny .*HF_TOKEN"):
            push(make_tiny(tmp_path / "mine"), ID)
