"""A file's content in memory: mapped, or read where that is not possible or not wanted."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path


def load_file(file: Path, *, mapped: bool = True) -> mmap.mmap:
    """Return the content of a file that is not empty.

    Mapped, it is shared with every process that maps the file, and changes with it: if the file is
    cut, a read beyond its end kills the process. Read, it is this process's own copy.

    Raises OSError where the file cannot be read, ValueError where it is empty.
    """
    with file.open("rb") as stream:
        if mapped:
            with suppress(OSError):  # some network file systems cannot
                return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        size = os.fstat(stream.fileno()).st_size
        content = mmap.mmap(-1, size)  # aligned to pages, unlike bytes
        if stream.readinto(content) != size:
            raise OSError(f"{file} became shorter while it was read")
        return content
