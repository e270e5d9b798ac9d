"""Tests that a bundle is written completely or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

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
    time.sleep(3600)  # until it is killed
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


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@contextmanager
def another_process(target: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that is staging a bundle, and its staging folder."""
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


def test_an_existing_bundle_is_replaced_completely(tmp_path: Path) -> None:
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
def test_other_files_are_not_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "precious"
    if kind == "folder":
        target.mkdir()
        (target / "thesis.tex").write_text("years of work", encoding="utf-8")
    else:
        target.write_text("years of work", encoding="utf-8")
    with (
        pytest.raises(ExportError, match="precious exists and is not a bundle; name another"),
        staged_bundle(target),
    ):
        pass
    assert names(tmp_path) == {"precious"}


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(ExportError, match=r"bundle cannot be written: .* name another --output"):
        make_tiny(tmp_path / "file" / "bundle")
    with pytest.raises(ExportError, match="No space left on device"):
        fail_after_filling(tmp_path / "bundle", FullDiskError)
    assert names(tmp_path) == {"file"}


def test_embedrts_errors_are_raised_unchanged(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError):
        fail_after_filling(tmp_path / "bundle", BundleNotFoundError)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
class TestModes:
    def test_a_bundle_can_be_read_by_all(self, tmp_path: Path) -> None:
        target = make_tiny(tmp_path / "bundle")
        assert target.stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize("mask", [0o077, 0o027, 0o022, 0o002])
    def test_a_new_bundle_follows_the_umask(self, tmp_path: Path, mask: int) -> None:
        before = os.umask(mask)
        try:
            target = make_tiny(tmp_path / "new" / "bundle")
        finally:
            os.umask(before)
        assert mode(target.parent) == 0o777 & ~mask
        assert mode(target) == 0o777 & ~mask
        assert {mode(file) for file in target.iterdir()} == {0o666 & ~mask}

    @pytest.mark.parametrize(("folder", "file"), [(0o700, 0o600), (0o770, 0o640), (0o555, 0o444)])
    def test_a_bundle_gets_the_mode_of_the_one_that_it_replaces(
        self, tmp_path: Path, folder: int, file: int
    ) -> None:
        target = make_tiny(tmp_path / "bundle")
        for old in target.iterdir():
            old.chmod(file)
        target.chmod(folder)
        with staged_bundle(target) as staging:
            fill(staging, b"new")
            assert mode(staging.path) == 0o700
            staging.publish()
        assert (target / "README.md").read_bytes() == b"new"
        assert mode(target) == folder
        assert {mode(new) for new in target.iterdir()} == {file}
        assert names(tmp_path) == {"bundle"}

    @pytest.mark.skipif(
        sys.platform == "win32" or os.geteuid() != 0, reason="only root gives files away"
    )
    def test_the_owner_is_kept(self, tmp_path: Path) -> None:
        target = make_tiny(tmp_path / "bundle")
        for path in (target, *target.iterdir()):
            os.chown(path, 1234, 2345)
        make_tiny(target)
        owners = {(p.stat().st_uid, p.stat().st_gid) for p in (target, *target.iterdir())}
        assert owners == {(1234, 2345)}

    @pytest.mark.skipif(
        sys.platform == "win32" or os.geteuid() != 0, reason="root reads and removes anything"
    )
    def test_a_read_only_bundle_is_replaced_and_removed(self) -> None:
        with TemporaryDirectory() as name:  # only root can enter pytest's own folders
            folder = Path(name)
            folder.chmod(0o777)
            os.seteuid(65534)
            try:
                target = make_tiny(folder / "bundle")
                target.chmod(0o555)
                make_tiny(target)
                assert names(folder) == {"bundle"}
                target.rename(folder / ".bundle.partial-abc.old")
                make_tiny(target)
                assert names(folder) == {"bundle"}
            finally:
                os.seteuid(0)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_kept_and_its_target_replaced(tmp_path: Path, there: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "bundle-1", tmp_path / "current"
    if there:
        make_tiny(real)
        (real / "notes").write_text("of the old one", encoding="utf-8")
    link.symlink_to("elsewhere/bundle-1")
    with staged_bundle(link) as staging:
        fill(staging, b"new")
        staging.publish()
    assert str(link.readlink()) == "elsewhere/bundle-1"
    assert names(real) == {MANIFEST, *FILES}
    assert (link / "README.md").read_bytes() == b"new"
    assert names(tmp_path) == {"elsewhere", "current"}
    assert names(real.parent) == {"bundle-1"}


def test_a_home_in_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_tiny(Path("~/bundle"))
    assert names(tmp_path) == {"bundle"}
    assert Bundle.open("~/bundle").path == tmp_path / "bundle"


@needs_locks
@pytest.mark.parametrize("name", ["bundle", "odd [1] * name"])
def test_the_next_process_removes_files_of_a_killed_one(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    with another_process(target) as (process, litter):
        assert (litter / "README.md").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert names(tmp_path) == {litter.name}
    make_tiny(target)
    assert names(tmp_path) == {name}


@needs_locks
def test_files_of_a_running_process_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with another_process(target) as (_, living):
        make_tiny(target)
        assert names(tmp_path) == {"bundle", living.name}
        assert (living / "README.md").read_bytes() == b"half"


@needs_locks
def test_files_of_an_interrupted_replacement_are_removed(tmp_path: Path) -> None:
    """A process killed between its two renames leaves the old bundle under another name."""
    target = make_tiny(tmp_path / "bundle")
    target.rename(tmp_path / ".bundle.partial-abc.old")
    make_tiny(target)
    assert names(tmp_path) == {"bundle"}


@needs_locks
def test_files_of_others_are_kept(tmp_path: Path) -> None:
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
