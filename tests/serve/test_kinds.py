"""What a server knows about each task: its routes, and the probe that tells whether it works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedrt import Bundle
from embedrt.bundle.manifest import Task
from embedrt.serve.app import OPERATIONS
from embedrt.serve.dialects.root import ROOTS
from embedrt.serve.dialects.tei import MODEL_TYPES
from embedrt.serve.health import Health
from embedrt.serve.kinds import KINDS
from embedrt.tasks import load_any
from tiny_bundle import make_tiny, make_tiny_reranker
from tiny_late import make_tiny_late
from tiny_sparse import make_tiny_sparse

MAKERS: dict[Task, Callable[[Path], Path]] = {
    "embedding": make_tiny,
    "reranking": make_tiny_reranker,
    "sparse": make_tiny_sparse,
    "late-interaction": make_tiny_late,
}


def test_every_task_is_known() -> None:
    assert KINDS.keys() == MAKERS.keys() == ROOTS.keys() == MODEL_TYPES.keys()
    paths = {each.path for each in OPERATIONS}
    for task, kind in KINDS.items():
        told = set(kind.routes.replace(" or ", ", ").split(", "))
        assert told <= paths
        assert told <= {each.path for each in OPERATIONS if each.task == task}


@pytest.mark.parametrize("task", sorted(MAKERS))
def test_a_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    """It computes a text of its own after a failure, until that works."""
    with load_any(Bundle.open(MAKERS[task](tmp_path / "tiny"))) as loaded:
        health, sessions = Health(loaded), loaded._engine._sessions
        works = sessions.run

        def fails(*_: Any, **_options: Any) -> None:
            raise MemoryError

        health.note_failure()
        monkeypatch.setattr(sessions, "run", fails)
        assert asyncio.run(health.complaint()) == f"{KINDS[task].doing} fails: MemoryError"
        monkeypatch.setattr(sessions, "run", works)
        batches = loaded.stats().batches
        assert asyncio.run(health.complaint()) is None
        assert loaded.stats().batches == batches + 1
        assert asyncio.run(health.complaint()) is None
        assert loaded.stats().batches == batches + 1
