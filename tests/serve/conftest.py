"""Servers for the tests of a file, and their expected results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedrt import Reranker
from serving import Serving, serving
from sharing import made_once

LABELS = ("no", "maybe", "yes")


@pytest.fixture(scope="module")
def server(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of MiniLM with default options."""
    with serving(minilm, tmp_path_factory.mktemp("server") / "log") as server:
        yield server
        assert server.process.poll() is None, server.log()


@pytest.fixture(scope="session")
def rerankers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small rerankers with random weights: ``one`` with one label, ``three`` with three."""
    from embedrt_export import export_model
    from model_folders import change_json
    from rerankers import make_cross_encoder

    def make(folder: Path) -> None:
        for name, labels in (("one", 1), ("three", len(LABELS))):
            model = make_cross_encoder(folder / f"{name}-model", labels=labels)
            if labels > 1:
                names = dict(enumerate(LABELS))
                change_json(model / "config.json", id2label=names)
            export_model(str(model), output=folder / name)

    return made_once(tmp_path_factory, "served-rerankers", make)


@pytest.fixture(scope="module")
def ranking(rerankers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A reranker of one label, behind a server that takes five texts at once."""
    log = tmp_path_factory.mktemp("ranking") / "log"
    options = ["--served-name", "ranks", "--max-texts", "5", "--max-body-mb", "0.05"]
    with serving(rerankers / "one", log, *options) as server:
        yield server
        assert server.process.poll() is None, server.log()


@pytest.fixture(scope="module")
def reranker(rerankers: Path) -> Iterator[Reranker]:
    """The same reranker, loaded."""
    with Reranker.load(rerankers / "one") as reranker:
        yield reranker
