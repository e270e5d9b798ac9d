"""Tests of where a model's files are found: package, folder, hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from comparison import Pair, assert_agrees
from embedrt import Bundle
from embedrt.cli import main
from embedrt.errors import SourceError
from embedrt_export import export_model
from embedrt_export.source import find_source, needed_files
from hub_server import Hub, Repository, serve
from model_folders import PACKAGE, make_small, minilm_folder

COMMITS = {"main": "b" * 40, "v1": "a" * 40}
MPNET_REVISION = "84f2bcc00d77236f9e89c8a360a00fb1139bf47d"


def test_recipe_from_its_package() -> None:
    for name in ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
        source = find_source(name)
        assert source.folder == minilm_folder()
        assert source.id == "sentence-transformers/all-MiniLM-L6-v2"
        assert source.origin == f"{PACKAGE} 0.1.0"
        assert source.revision is None
        assert source.recipe is not None


def test_recipe_before_a_folder_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    assert find_source("all-MiniLM-L6-v2").recipe is not None
    source = find_source("./all-MiniLM-L6-v2")
    assert source.recipe is None
    assert source.folder.resolve() == tmp_path / "all-MiniLM-L6-v2"
    assert (source.id, source.origin) == ("all-MiniLM-L6-v2", "folder")


def test_files_of_a_recipe(tmp_path: Path) -> None:
    source = find_source("all-mpnet-base-v2", files=tmp_path)
    assert source.folder == tmp_path
    assert source.id == "sentence-transformers/all-mpnet-base-v2"
    assert (source.origin, source.revision) == ("folder", None)


@pytest.mark.parametrize(
    ("model", "options", "hint"),
    [
        ("no-such-recipe", {}, "all-mpnet-base-v2"),
        ("./no-such-folder", {}, "not an existing folder"),
        ("a/b/c", {}, "a hub id"),
        ("https://huggingface.co/org/name", {}, "export org/name$"),
        ("https://huggingface.co/org/name/tree/v1", {}, "export org/name --revision v1$"),
        ("https://hub.local:8080/org/name/blob/main/a/b.json", {}, "org/name --revision main$"),
        ("hf://org/name", {}, "export org/name$"),
        ("org/name@v1.0", {}, "export org/name --revision v1.0$"),
        ("org/name/", {}, "export org/name$"),
        (__file__, {}, "is a file"),
        ("FOLDER", {"revision": "v1"}, "has no revision v1"),
        ("FOLDER", {"files": Path()}, "--files requires a recipe"),
    ],
)
def test_what_cannot_be_found(
    tmp_path: Path, model: str, options: dict[str, Any], hint: str
) -> None:
    with pytest.raises(SourceError, match=hint):
        find_source(model.replace("FOLDER", str(tmp_path)), **options)


def test_a_home_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell does not expand the ``~`` of ``--output=~/bundle``."""
    make_small(tmp_path / "model", "bert")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SourceError, match=f"{tmp_path}/files"):
        export_model("all-mpnet-base-v2", files=Path("~/files"))
    assert export_model("~/model", output=Path("~/bundle")) == tmp_path / "bundle"
    assert Bundle.open("~/bundle").manifest.source.id == "model"
    assert main(["verify", "~/bundle", "--against", "~/model"]) == 0


@pytest.mark.parametrize(
    ("files", "needed"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"], ["pytorch_model.bin"]),
        (
            [
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "pytorch_model.bin",
            ],
            [
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ],
        ),
        (
            ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"],
            ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"],
        ),
        (["2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"], ["2_Dense/model.safetensors"]),
        (["2_Dense/pytorch_model.bin", "model.safetensors", "pytorch_model.bin"],
         ["2_Dense/pytorch_model.bin", "model.safetensors"]),
        (["onnx/model.onnx", "onnx/config.json", "openvino/openvino_model.bin"], []),
        (["modules.json", "1_Pooling/config.json"], ["modules.json", "1_Pooling/config.json"]),
        (["vocab.txt", "tokenizer.json", "train_script.py", "data_config.json"],
         ["vocab.txt", "tokenizer.json"]),
        (["model_quantized.safetensors", "rust_model.ot", "adapter_model.safetensors"], []),
    ],
)  # fmt: skip
def test_needed_files(files: Sequence[str], needed: Sequence[str]) -> None:
    assert sorted(needed_files(files)) == sorted(needed)


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of a command."""

    folder: Path
    status: int
    out: str
    err: str
    requests: list[str]


Runs = dict[str, Finished]


FOREIGN = ("pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "openvino/config.json")


@pytest.fixture(scope="module")
def hub_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, with other files that its repository might contain."""
    folder = make_small(tmp_path_factory.mktemp("hub") / "small-bert", "bert")
    for name in FOREIGN:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"never read")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Small\n", encoding="utf-8")
    return folder


Situation = tuple[str, list[str]]  # its name, and the arguments of ``embedrt export``

# The order matters: a model that is in the cache is found whatever the hub says.
ONLINE: list[Situation] = [
    ("unknown id", ["someone/unknown"]),
    ("unknown revision", ["someone/small-bert", "--revision", "v2"]),
    ("recipe", ["all-mpnet-base-v2"]),
    ("tag", ["someone/small-bert", "--revision", "v1"]),
]
NO_SERVER: list[Situation] = [("no server", ["someone/small-bert"])]
OFFLINE: list[Situation] = [("offline", ["all-mpnet-base-v2"])]

EXPORTS = """
import contextlib, io, json, os, sys
from embedrt.cli import main

results = []
for folder, arguments in json.loads(sys.argv[1]):
    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["export", *arguments])
    results.append((status, out.getvalue(), err.getvalue()))
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def runs(hub_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The command's results by situation.

    A process imports the libraries for seconds and reads the hub's address then, so that the
    situations of one address share a process.
    """
    repositories = {
        "someone/small-bert": Repository(hub_model, COMMITS),
        "sentence-transformers/all-mpnet-base-v2": Repository(
            hub_model, {"main": "b" * 40, "pinned": MPNET_REVISION}
        ),
    }
    found: Runs = {}
    with serve(repositories) as hub:
        for situations, settings in (
            (ONLINE, {}),
            (NO_SERVER, {"HF_ENDPOINT": "http://127.0.0.1:9"}),
            (OFFLINE, {"HF_HUB_OFFLINE": "1"}),
        ):
            found |= _run(situations, tmp_path_factory.mktemp("run"), hub, settings)
    return found


def _run(situations: Sequence[Situation], home: Path, hub: Hub, settings: dict[str, str]) -> Runs:
    folders = [home / name.replace(" ", "-") for name, _ in situations]
    for folder in folders:
        folder.mkdir()
    commands = [(str(folder), way) for folder, (_, way) in zip(folders, situations, strict=True)]
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **settings,
    }
    ended = subprocess.run(
        [sys.executable, "-c", EXPORTS, json.dumps(commands)],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=300,
    )
    assert ended.stderr == ""
    results: list[tuple[int, str, str]] = json.loads(ended.stdout)
    found: Runs = {}
    for (name, way), folder, (status, out, err) in zip(situations, folders, results, strict=True):
        model = way[0].rpartition("/")[2]
        requests = [line for line in hub.requests if model in line]
        found[name] = Finished(folder, status, out, err, requests)
    return found


def test_download(runs: Runs, hub_model: Path) -> None:
    run = runs["tag"]
    assert run.status == 0, run.err
    path = run.folder / "models" / "small-bert-fp32"
    assert run.out == "models/small-bert-fp32\n"
    manifest = Bundle.open(path, verify="sha256").manifest
    assert manifest.source.id == "someone/small-bert"
    assert manifest.source.origin == "hub"
    assert manifest.source.revision == COMMITS["v1"]
    assert manifest.source.license == "apache-2.0"
    assert_agrees(Pair(hub_model, path), ["", "a", "How many people live in London?"])


def test_only_what_is_needed_is_downloaded_at_one_commit(runs: Runs, hub_model: Path) -> None:
    files = [path for path in runs["tag"].requests if "/resolve/" in path]
    fetched = {path.rpartition(f"/resolve/{COMMITS['v1']}/")[2] for path in files}
    # The files of tokenizers and modules depend on the versions that saved them.
    saved = {file.relative_to(hub_model).as_posix() for file in hub_model.rglob("*.*")}
    assert {"README.md", "model.safetensors", "modules.json", "1_Pooling/config.json"} <= fetched
    assert fetched == saved - set(FOREIGN)


def test_recipe_is_downloaded_at_its_revision_and_checked(runs: Runs) -> None:
    run = runs["recipe"]
    assert run.status == 1
    assert "family: the recipe expects 'mpnet', the model's files say 'bert'" in run.err
    assert all(MPNET_REVISION in request for request in run.requests)
    assert run.requests
    assert not (run.folder / "models").exists()


@pytest.mark.parametrize(
    ("situation", "way"),
    [
        ("unknown id", "embedrt export FOLDER"),
        ("unknown revision", "embedrt export FOLDER"),
        ("no server", "embedrt export FOLDER"),
        ("offline", "embedrt export all-mpnet-base-v2 --files FOLDER"),
    ],
)
def test_failed_download_names_the_way_without(runs: Runs, situation: str, way: str) -> None:
    run = runs[situation]
    assert run.status == 1
    (line,) = run.err.splitlines()
    assert line.startswith("embedrt: ")
    assert way in line
    assert run.out == ""
    assert not (run.folder / "models").exists()


def test_export_of_the_downloaded_files_by_folder(runs: Runs, tmp_path: Path) -> None:
    """A copy of the downloaded files exports without the network."""
    home = runs["tag"].folder.with_name("home")
    (snapshot,) = (home / "hub").glob("models--someone*/snapshots/*")
    shutil.copytree(snapshot, tmp_path / "small-bert")
    bundle = Bundle.open(export_model(str(tmp_path / "small-bert"), output=tmp_path / "bundle"))
    assert bundle.manifest.source.origin == "folder"
