"""Tests that output files have the same properties as files opened to write, but are complete."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import numpy as np
import pytest

from embedrt.cli import main
from embedrt.cli.output import is_special, replacing
from embedrt.files import copy_ownership

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes, links and pipes")
needs_root = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root gives files away"
)

NOBODY = 65534
NEW = b"new bytes"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, content: bytes = NEW) -> None:
    with replacing(path) as file:
        file.write(content)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def as_nobody() -> Iterator[None]:
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may write to; pytest's own folders are private."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_bytes(b"w1\nw2 w2\n")
    return path


class TestModes:
    @pytest.mark.parametrize("mask", [0o077, 0o027, 0o022, 0o002, 0o000])
    @pytest.mark.parametrize("name", ["x.npy", "x.jsonl"])
    def test_a_new_file_follows_the_umask(
        self, tiny: Path, texts: Path, tmp_path: Path, mask: int, name: str
    ) -> None:
        with umask(mask):
            (tmp_path / "plain").write_bytes(b"")
            assert main(["encode", str(tiny), str(texts), "--output", str(tmp_path / name)]) == 0
        assert mode(tmp_path / name) == mode(tmp_path / "plain") == 0o666 & ~mask

    @pytest.mark.parametrize("kept", [0o600, 0o640, 0o444, 0o664, 0o777])
    def test_an_old_file_keeps_its_mode(self, tmp_path: Path, kept: int) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"old")
        path.chmod(kept)
        write(path)
        assert (path.read_bytes(), mode(path)) == (NEW, kept)

    def test_the_replacement_of_a_private_file_is_never_public(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"old")
        path.chmod(0o600)
        with umask(0), replacing(path):
            assert {mode(file) for file in tmp_path.iterdir()} == {0o600}
            assert len(list(tmp_path.iterdir())) == 2

    @needs_root
    def test_an_old_file_keeps_its_owner(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"old")
        os.chown(path, 1234, 2345)
        path.chmod(0o640)
        write(path)
        status = path.stat()
        assert (path.read_bytes(), status.st_uid, status.st_gid) == (NEW, 1234, 2345)
        assert mode(path) == 0o640

    @needs_root
    def test_an_owner_that_cannot_be_set_is_kept(self, public: Path) -> None:
        """Opening another user's file to write does not change its owner, nor does replacing it."""
        path = public / "x"
        path.write_bytes(b"old, and longer than the new")
        path.chmod(0o666)
        before = path.stat()
        with as_nobody():
            write(path)
        after = path.stat()
        assert path.read_bytes() == NEW
        assert (after.st_ino, after.st_uid) == (before.st_ino, 0)
        assert list(public.iterdir()) == [path]

    @needs_root
    def test_a_file_without_write_permission_is_not_replaced(self, public: Path) -> None:
        path = public / "x"
        path.write_bytes(b"old")
        path.chmod(0o644)
        with pytest.raises(PermissionError) as caught, as_nobody():
            write(path)
        assert Path(caught.value.filename) == path
        assert path.read_bytes() == b"old"
        assert list(public.iterdir()) == [path]

    @needs_root
    def test_a_folder_without_write_permission(self, public: Path) -> None:
        path = public / "x"
        path.write_bytes(b"old, and longer than the new")
        path.chmod(0o666)
        public.chmod(0o755)
        with as_nobody():
            write(path)
            with pytest.raises(PermissionError, match=r"'.*/new'$"):
                write(public / "new")
        assert path.read_bytes() == NEW

    @needs_root
    def test_a_file_that_is_a_mount(self, tmp_path: Path) -> None:
        """Containers mount single files of their host, and nothing can be renamed over a mount."""
        host, path = tmp_path / "host", tmp_path / "x"
        host.write_bytes(b"old, and longer than the new")
        path.write_bytes(b"")
        if subprocess.run(["mount", "--bind", host, path], check=False).returncode:
            pytest.skip("may not mount")
        try:
            write(path)
            assert host.read_bytes() == path.read_bytes() == NEW
        finally:
            subprocess.run(["umount", path], check=True)
        assert {file.name for file in tmp_path.iterdir()} == {"host", "x"}

    def test_hard_links_are_kept(self, tmp_path: Path) -> None:
        path, other = tmp_path / "x", tmp_path / "other"
        path.write_bytes(b"old, and longer than the new")
        os.link(path, other)
        write(path)
        assert other.samefile(path)
        assert other.read_bytes() == NEW

    @pytest.mark.skipif(sys.platform != "linux", reason="Linux's access lists")
    def test_an_access_list_is_kept(self, tmp_path: Path) -> None:
        """The group bits of such a file are the mask of its access list, not the group's rights."""
        path = tmp_path / "x"
        path.write_bytes(b"old")
        entries = [(1, 6, -1), (2, 4, NOBODY), (4, 0, -1), (16, 4, -1), (32, 0, -1)]
        content = (2).to_bytes(4, "little") + b"".join(
            tag.to_bytes(2, "little")
            + bits.to_bytes(2, "little")
            + (who % 2**32).to_bytes(4, "little")
            for tag, bits, who in entries
        )
        try:
            os.setxattr(path, "system.posix_acl_access", content)
        except OSError:
            pytest.skip("no access lists on this file system")
        write(path)
        assert path.read_bytes() == NEW
        assert os.getxattr(path, "system.posix_acl_access") == content

    def test_a_name_of_maximum_length(self, tmp_path: Path) -> None:
        for name in ("x" * 255, "é" * 127):
            write(tmp_path / name)
            assert (tmp_path / name).read_bytes() == NEW


class TestLinks:
    @pytest.mark.parametrize("absolute", [True, False])
    @pytest.mark.parametrize("there", [True, False])
    def test_a_link_is_written_through(self, tmp_path: Path, absolute: bool, there: bool) -> None:
        (tmp_path / "elsewhere").mkdir()
        real, link, chain = tmp_path / "elsewhere" / "real", tmp_path / "link", tmp_path / "chain"
        if there:
            real.write_bytes(b"old")
            real.chmod(0o600)
        link.symlink_to(real if absolute else "elsewhere/real")
        chain.symlink_to("link")
        write(chain)
        assert str(chain.readlink()) == "link"
        assert str(link.readlink()) == (str(real) if absolute else "elsewhere/real")
        assert real.read_bytes() == NEW
        assert not there or mode(real) == 0o600
        assert {file.name for file in tmp_path.iterdir()} == {"elsewhere", "link", "chain"}
        assert [file.name for file in real.parent.iterdir()] == ["real"]

    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "x").symlink_to("x")
        with pytest.raises(OSError, match="symbolic links"):
            write(tmp_path / "x")
        assert (tmp_path / "x").is_symlink()

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "x.npy").mkdir()
        with pytest.raises(IsADirectoryError):
            write(tmp_path / "x.npy")
        assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            write(tmp_path / "nowhere" / "x.npy")
        assert str(caught.value).endswith(f"'{tmp_path / 'nowhere' / 'x.npy'}'")


def read_pipe(path: Path) -> tuple[Thread, list[bytes]]:
    read: list[bytes] = []
    reader = Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    return reader, read


class TestSpecialFiles:
    @pytest.mark.parametrize("name", ["pipe", "pipe.jsonl", "link.jsonl"])
    def test_json_lines_to_a_pipe(self, tiny: Path, texts: Path, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        if name == "link.jsonl":
            path.symlink_to("pipe")
        os.mkfifo(tmp_path / "pipe" if path.is_symlink() else path)
        reader, read = read_pipe(path)
        assert main(["encode", str(tiny), str(texts), "--output", str(path)]) == 0
        reader.join(timeout=300)
        assert [json.loads(line)[1] for line in read[0].splitlines()] == [1, 0]
        assert path.is_fifo()
        assert path.is_symlink() == (name == "link.jsonl")

    def test_npy_to_a_pipe(self, tiny: Path, texts: Path, tmp_path: Path) -> None:
        """The header, which contains the number of vectors, precedes them even in a pipe."""
        path = tmp_path / "pipe.npy"
        os.mkfifo(path)
        reader, read = read_pipe(path)
        assert main(["encode", str(tiny), str(texts), "--output", str(path)]) == 0
        reader.join(timeout=300)
        plain = tmp_path / "plain.npy"
        assert main(["encode", str(tiny), str(texts), "--output", str(plain)]) == 0
        assert read == [plain.read_bytes()]
        assert np.load(io.BytesIO(read[0])).shape == (2, 10)
        assert path.is_fifo()

    @pytest.mark.parametrize("name", ["null", "x.npy", "x.jsonl"])
    def test_nowhere(self, tiny: Path, texts: Path, tmp_path: Path, name: str) -> None:
        before = Path(os.devnull).stat()
        (tmp_path / name).symlink_to(os.devnull)
        for path in (str(tmp_path / name), os.devnull):
            assert main(["encode", str(tiny), str(texts), "--output", path]) == 0
        after = Path(os.devnull).stat()
        assert (tmp_path / name).is_symlink()
        assert stat.S_ISCHR(after.st_mode)
        assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)

    @pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
    @pytest.mark.parametrize("to", ["pipe", "file"])
    @pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
    def test_stdout(self, tiny: Path, texts: Path, tmp_path: Path, to: str, name: str) -> None:
        """The shell's file is not replaced by another."""
        command = [sys.executable, "-m", "embedrt", "encode", str(tiny), str(texts)]
        with (tmp_path / "out").open("w+b") as file:
            inode = os.fstat(file.fileno()).st_ino
            target = subprocess.PIPE if to == "pipe" else file
            process = subprocess.run([*command, "--output", name], stdout=target, check=True)
            file.seek(0)
            written = process.stdout if to == "pipe" else file.read()
        assert [json.loads(line)[1] for line in written.splitlines()] == [1, 0]
        assert (tmp_path / "out").stat().st_ino == inode

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_device(
        self, tiny: Path, texts: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["encode", str(tiny), str(texts), "--output", "/dev/full"]) == 1
        assert "No space left on device" in capsys.readouterr().err

    def test_special_files(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        (tmp_path / "link").symlink_to("file")
        for path in (tmp_path, tmp_path / "file", tmp_path / "link", tmp_path / "nowhere"):
            assert not is_special(path)
        assert is_special(Path(os.devnull))

    @pytest.mark.parametrize("name", ["x.csv", "x", "nowhere/x"])
    def test_any_other_name_needs_its_ending(
        self, tiny: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        assert main(["encode", str(tiny), str(texts), "--output", str(tmp_path / name)]) == 1
        assert "the name must end in .npy or .jsonl" in capsys.readouterr().err


@needs_root
def test_copying_attributes_returns_what_could_not_be_set(public: Path) -> None:
    old, new = public / "old", public / "new"
    old.write_bytes(b"")
    old.chmod(0o640)
    new.write_bytes(b"")
    assert copy_ownership(new, old.stat())
    assert mode(new) == 0o640
    os.chown(new, NOBODY, NOBODY)
    new.chmod(0o666)
    with as_nobody():
        assert not copy_ownership(new, old.stat())
    assert mode(new) == 0o640
