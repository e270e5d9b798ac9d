"""How a bundle comes into being: whole, or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedrt import Bundle
from embedrt.bundle.reader import FILES, MANIFEST
from embedrt.bundle.writer import Staging, staged_bundle, sweep
from embedrt.errors import BundleNotFoundError, ExportError
from tiny_bundle import make_tiny, tiny_manifest

needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")

STAGE_AND_WAIT = """
import sys, time
from pathlib import Path
from embedrt.bundle.writer import staged_bundle
with staged_bundle(Path(sys.argv[1])) as staging:
    staging.add("README.md", b"half")
    print(staging.path, flush=True)
    time.sleep(60)
"""


class FullDiskError(OSError):
    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill(staging: Staging, text: bytes = b"text") -> None:
    for name in FILES:
        staging.add(name, text)
    staging.seal(tiny_manifest())


def fail_after_filling(target: Path, error: type[BaseException]) -> None:
    with staged_bundle(target) as staging:
        fill(staging)
        raise error


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@contextmanager
def another_process(target: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process in the midst of staging, and its folder."""
    command = [sys.executable, "-c", STAGE_AND_WAIT, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_bundle_appears_only_when_it_is_published(tmp_path: Path) -> None:
    target = tmp_path / "new" / "bundle"
    with staged_bundle(target) as staging:
        fill(staging)
        assert not target.exists()
        assert staging.path.parent == target.parent
        staging.publish()
        assert Bundle.open(target, verify="sha256").path == target
    assert names(target.parent) == {"bundle"}
    assert names(target) == {MANIFEST, *FILES}


def test_what_is_sealed_is_described(tmp_path: Path) -> None:
    with staged_bundle(tmp_path / "bundle") as staging:
        fill(staging)
        (staging.path / "scratch").write_text("not the bundle's", encoding="utf-8")
        sealed = staging.seal(tiny_manifest())
    assert sealed.files.keys() == FILES
    assert {entry.size for entry in sealed.files.values()} == {4}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fail_after_filling(tmp_path / "bundle", error)
    assert names(tmp_path) == set()


def test_not_publishing_leaves_nothing(tmp_path: Path) -> None:
    with staged_bundle(tmp_path / "bundle") as staging:
        fill(staging)
    assert names(tmp_path) == set()


def test_an_existing_bundle_is_replaced_whole(tmp_path: Path) -> None:
    target = make_tiny(tmp_path / "bundle")
    (target / "notes").write_text("of the old one", encoding="utf-8")
    with staged_bundle(target) as staging:
        fill(staging, b"new")
        assert (target / "notes").exists()
        staging.publish()
    assert names(tmp_path) == {"bundle"}
    assert names(target) == {MANIFEST, *FILES}
    assert (target / "README.md").read_bytes() == b"new"


def test_a_failure_leaves_the_existing_bundle(tmp_path: Path) -> None:
    target = make_tiny(tmp_path / "bundle")
    with pytest.raises(RuntimeError):
        fail_after_filling(target, RuntimeError)
    assert names(tmp_path) == {"bundle"}
    Bundle.open(target, verify="sha256")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_bundle_is_not_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "precious"
    if kind == "folder":
        target.mkdir()
        (target / "thesis.tex").write_text("years of work", encoding="utf-8")
    else:
        target.write_text("years of work", encoding="utf-8")
    with (
        pytest.raises(ExportError, match="precious exists and is no bundle; name another"),
        staged_bundle(target),
    ):
        pass
    assert names(tmp_path) == {"precious"}


def test_a_disk_that_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(ExportError, match=r"bundle cannot be written: .* name another --output"):
        make_tiny(tmp_path / "file" / "bundle")
    with pytest.raises(ExportError, match="No space left on device"):
        fail_after_filling(tmp_path / "bundle", FullDiskError)
    assert names(tmp_path) == {"file"}


def test_our_own_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError):
        fail_after_filling(tmp_path / "bundle", BundleNotFoundError)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_bundle_can_be_read_by_all(tmp_path: Path) -> None:
    target = make_tiny(tmp_path / "bundle")
    assert target.stat().st_mode & 0o777 == 0o755


@needs_locks
@pytest.mark.parametrize("name", ["bundle", "odd [1] * name"])
def test_litter_of_a_killed_process_is_swept_by_the_next(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    with another_process(target) as (process, litter):
        assert (litter / "README.md").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert names(tmp_path) == {litter.name}
    make_tiny(target)
    assert names(tmp_path) == {name}


@needs_locks
def test_a_living_process_is_not_swept(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with another_process(target) as (_, living):
        make_tiny(target)
        assert names(tmp_path) == {"bundle", living.name}
        assert (living / "README.md").read_bytes() == b"half"


@needs_locks
def test_an_interrupted_replacement_is_swept(tmp_path: Path) -> None:
    """Killed between its two renames, a process leaves the old bundle under another name."""
    target = make_tiny(tmp_path / "bundle")
    target.rename(tmp_path / ".bundle.partial-abc.old")
    make_tiny(target)
    assert names(tmp_path) == {"bundle"}


@needs_locks
def test_sweeping_touches_nothing_of_others(tmp_path: Path) -> None:
    for other in (".other.partial-x", "bundle.partial-x", ".bundle", "other"):
        (tmp_path / other).mkdir()
    before = names(tmp_path)
    sweep(tmp_path / "bundle")
    assert names(tmp_path) == before


def test_a_relative_target_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with staged_bundle(Path("bundle")) as staging:
        fill(staging)
        os.chdir("elsewhere")
        staging.publish()
    assert names(tmp_path) == {"bundle", "elsewhere"}
