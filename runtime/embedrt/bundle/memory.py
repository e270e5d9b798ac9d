"""Loads file content into memory: mapped, or read on request or if mapping is impossible."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path


def load_file(file: Path, *, mapped: bool = True) -> mmap.mmap:
    """Return the content of a nonempty file.

    Mapped memory is shared with every process that maps the file, and reflects changes to the
    file: after a truncation, reading beyond the new end kills the process. With ``mapped=False``
    the result is a private copy.

    Raises OSError if the file cannot be read, ValueError if it is empty.
    """
    with file.open("rb") as stream:
        if mapped:
            with suppress(OSError):  # some network file systems do not support it
                return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        size = os.fstat(stream.fileno()).st_size
        content = mmap.mmap(-1, size)  # page-aligned, unlike bytes
        if stream.readinto(content) != size:
            raise OSError(f"{file} became shorter while it was read")
        return content
