"""Sparse encoders behind a router, fetched from a hub: the folders that the router names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedrt.errors import SourceError
from embedrt_export.source.find import find_source
from embedrt_export.source.settings import read_settings
from hub_server import Hub, Repository, ask, serve
from sparse_folders import make_sparse

ID = "someone/sparse"
COMMITS = {"main": "c" * 40}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_sparse(tmp_path_factory.mktemp("hub") / "model", "roberta", inference_free=True)
    (folder / "other").mkdir()
    (folder / "other" / "model.safetensors").write_bytes(b"never read")
    return folder


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve({ID: Repository(model, COMMITS)}) as hub:
        ask(hub.url, monkeypatch, cache=tmp_path / "cache")
        yield hub


def test_all_modules_are_fetched(hub: Hub) -> None:
    folder = find_source(ID).folder
    assert hub.requests
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert names >= {
        "router_config.json",
        "document_0_Transformer/model.safetensors",
        "document_0_Transformer/tokenizer.json",
        "document_1_SpladePooling/config.json",
        "query_0_SparseStaticEmbedding/model.safetensors",
        "query_0_SparseStaticEmbedding/tokenizer.json",
    }
    assert "other/model.safetensors" not in names
    settings = read_settings(folder)
    assert settings.task == "sparse"
    assert settings.sparse is not None
    assert settings.sparse.queries is not None


@pytest.mark.parametrize(
    "lost",
    [
        "router_config.json",
        "document_0_Transformer/model.safetensors",
        "document_1_SpladePooling/config.json",
        "query_0_SparseStaticEmbedding/model.safetensors",
    ],
)
def test_an_incomplete_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    (find_source(ID).folder / lost).unlink()
    ask("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(SourceError, match="only partly in the hub's cache") as caught:
        find_source(ID)
    assert lost in str(caught.value)
    assert hub.requests
