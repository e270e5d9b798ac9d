"""Files and folders as those who name them mean them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path


def expand(path: str | Path) -> Path:
    """Return `path` with ``~`` and ``~name`` at its start replaced, where there is such a home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's raises where there is none


def take_after(path: Path, old: os.stat_result) -> bool:
    """Give `path` the owner, the group and the mode of what it is to replace.

    Returns whether all could be given; the mode is given in any case.
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
