"""Tests that what the processes of a test run share is made once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sharing import made_once


def test_made_by_one_of_many(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        folder.mkdir()
        time.sleep(0.1)
        (folder / "file").write_text("whole", encoding="utf-8")

    def use(_: int) -> str:
        return (made_once(tmp_path_factory, f"{tmp_path.name}-shared", make) / "file").read_text(
            encoding="utf-8"
        )

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(8))) == ["whole"] * 8
    assert len(made) == 1


def test_a_failed_attempt_is_repeated(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    tries: list[Path] = []

    def make(folder: Path) -> None:
        folder.mkdir()
        tries.append(folder)
        if len(tries) == 1:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        made_once(tmp_path_factory, f"{tmp_path.name}-shared", make)
    assert made_once(tmp_path_factory, f"{tmp_path.name}-shared", make).is_dir()


def test_workers_share_a_folder(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's base folder is inside that of the run."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    root = tmp_path_factory.getbasetemp().parent
    assert made_once(tmp_path_factory, tmp_path.name, Path.mkdir).parent == root
    (root / tmp_path.name).rmdir()
    (root / f"{tmp_path.name}.lock").unlink(missing_ok=True)
