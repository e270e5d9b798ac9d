"""Paths given by users: expansion of the home folder, and ownership of replaced files."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path


def expand(path: str | Path) -> Path:
    """Expand a leading ``~`` or ``~name``; return `path` unchanged if there is no such home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises without a home


def copy_ownership(path: Path, old: os.stat_result) -> bool:
    """Set the owner, group and mode of `path` to those of the file or folder that it replaces.

    Returns False if the owner or group cannot be changed; the mode is set in any case.
    """
    same = True
    if sys.platform != "win32":
        new = path.stat()
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            try:
                os.chown(path, old.st_uid, old.st_gid)
            except OSError:
                same = False
    path.chmod(stat.S_IMODE(old.st_mode))
    return same
