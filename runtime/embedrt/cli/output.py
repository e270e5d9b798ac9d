"""A command's output file: what ``open(path, "wb")`` would have made, and never half of it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from embedrt.files import take_after

# What lies here leads to something that is open already, maybe to a plain file.
DEVICES = frozenset(map(Path, ("/dev", "/dev/fd", "/proc/self/fd")))

FOLDER_TAKES_NO_FILE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def is_special(path: Path) -> bool:
    """Whether `path` is a device, a pipe or an open file, which is written to and not replaced."""
    plain = path.is_file() and path.absolute().parent not in DEVICES
    return path.exists() and not plain and not path.is_dir()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write beside `path` and rename at the end, so that no half file ever has its name.

    A new file has the mode that the umask leaves; an old one keeps its mode and its owner; a link
    is followed. An old file that has other names, or cannot be renamed over, gets the finished
    bytes. What is special is written to as it is, and so is a file whose folder takes no other.

    SIGTERM ends the process with nothing left behind, as an exception does.
    """
    if is_special(path):
        with path.open("wb") as file:
            yield file
        return
    old = _status(path)
    with _ending_at_sigterm():
        partial = _make_beside(path, old)
        if partial is None:
            with path.open("wb") as file:
                yield file
            return
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _publish(partial, path, old)
        finally:
            partial.unlink(missing_ok=True)


def _status(path: Path) -> os.stat_result | None:
    """The status of the file at `path`, or None; raise what opening it to write raises."""
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return None
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _make_beside(path: Path, old: os.stat_result | None) -> Path | None:
    """Make an empty file beside what `path` leads to; None where only the old file may be written.

    It is private where the old one may be.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name[:50]}.{os.urandom(4).hex()}")
    try:
        partial.touch(0o666 if old is None else 0o600, exist_ok=False)
    except OSError as error:
        if old is not None and error.errno in FOLDER_TAKES_NO_FILE:
            return None
        error.filename = str(path)
        raise
    return partial


def _publish(partial: Path, path: Path, old: os.stat_result | None) -> None:
    """Give the finished file its name, or its bytes to the file that must stay the one it is."""
    target = Path(os.path.realpath(path))
    if old is None or (_is_replaceable(target, old) and take_after(partial, old)):
        try:
            partial.replace(target)
        except OSError as error:
            if error.errno != errno.EBUSY:  # a mount of its own, as containers have
                raise
        else:
            return
    with partial.open("rb") as finished, target.open("wb") as file:
        shutil.copyfileobj(finished, file)
        file.flush()
        os.fsync(file.fileno())


def _is_replaceable(target: Path, old: os.stat_result) -> bool:
    """Whether a file with this one's mode and owner is as good: no other name, no access list."""
    attributes: list[str] = []
    if sys.platform == "linux":
        with suppress(OSError):
            attributes = os.listxattr(target)
    return old.st_nlink == 1 and "system.posix_acl_access" not in attributes


@contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)  # as shells expect
