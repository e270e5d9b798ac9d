"""Atomic replacement of a command's output file, with the semantics of ``open(path, "wb")``."""

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

from embedrt.files import copy_ownership
from embedrt.signals import ending_signals, handled

# Entries of these folders refer to files that are already open, possibly regular files.
DEVICES = frozenset(map(Path, ("/dev", "/dev/fd", "/proc/self/fd")))

READ_ONLY_FOLDER = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def is_special(path: Path) -> bool:
    """Whether `path` is a device, a pipe or an open file: written in place, not replaced."""
    plain = path.is_file() and path.absolute().parent not in DEVICES
    return path.exists() and not plain and not path.is_dir()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`, and rename it to `path` when it is complete.

    A new file gets its mode from the umask; a replaced file keeps its mode and owner; links are
    followed. If the old file has other hard links or an access list, or cannot be replaced by a
    rename, the complete content is copied into it. Special files (see `is_special`), and files in a
    folder that is not writable, are written in place.

    The temporary file is removed after an exception and after a signal that ends the command.
    """
    if is_special(path):
        with path.open("wb") as file:
            yield file
        return
    old = _status(path)
    numbers = [number for number in ending_signals() if number != signal.SIGINT]
    with handled(numbers, _terminate):
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


def check_replaceable(path: Path) -> None:
    """Raise OSError if `path` cannot be written, before the long work that ends in writing it."""
    if not is_special(path) and (partial := _make_beside(path, _status(path))) is not None:
        partial.unlink()


def _status(path: Path) -> os.stat_result | None:
    """Return the status of the file at `path`, None if missing; OSError if it is not writable."""
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return None
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _make_beside(path: Path, old: os.stat_result | None) -> Path | None:
    """Create an empty file beside the target of `path`; None if the folder is not writable.

    If there is an old file, which may be private, only the owner can read the new one.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name[:50]}.{os.urandom(4).hex()}")
    try:
        partial.touch(0o666 if old is None else 0o600, exist_ok=False)
    except OSError as error:
        if old is not None and error.errno in READ_ONLY_FOLDER:
            return None
        error.filename = str(path)
        raise
    return partial


def _publish(partial: Path, path: Path, old: os.stat_result | None) -> None:
    """Rename the finished file to its target, or copy its content into the existing file."""
    target = Path(os.path.realpath(path))
    if old is None or (_is_replaceable(target, old) and copy_ownership(partial, old)):
        try:
            partial.replace(target)
        except OSError as error:
            if error.errno != errno.EBUSY:  # the target is a mount point, as in containers
                raise
        else:
            return
    with partial.open("rb") as finished, target.open("wb") as file:
        shutil.copyfileobj(finished, file)
        file.flush()
        os.fsync(file.fileno())


def _is_replaceable(target: Path, old: os.stat_result) -> bool:
    """Whether a rename may replace the file: it has no other hard link and no access list."""
    attributes: list[str] = []
    if sys.platform == "linux":
        with suppress(OSError):
            attributes = os.listxattr(target)
    return old.st_nlink == 1 and "system.posix_acl_access" not in attributes


def _terminate(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)  # the status that shells report for a signal
