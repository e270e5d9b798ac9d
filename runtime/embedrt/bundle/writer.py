"""Writing bundles atomically.

A bundle is written to a hidden folder beside its target, verified there, synced to disk, and then
renamed. If the process is interrupted, the target is the old bundle or does not exist; the next
export to the same target removes the hidden folder.

File modes follow the umask. A bundle that replaces another copies its owner and modes, file by
file. If the target is a link, the folder that it points to is replaced.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from embedrt.bundle.manifest import Manifest
from embedrt.bundle.protobuf import Data
from embedrt.bundle.reader import FILES, GRAPH, MANIFEST, describe_file
from embedrt.bundle.weights import WEIGHTS, move_weights
from embedrt.errors import EmbedrtError, ExportError
from embedrt.files import copy_ownership, expand

if sys.platform != "win32":
    import fcntl

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Staging:
    """A bundle under construction: its hidden folder and its target."""

    path: Path
    target: Path

    @property
    def scratch(self) -> Path:
        """A folder for intermediate files, on the disk of the target; not part of the bundle."""
        folder = self.path / SCRATCH
        folder.mkdir(exist_ok=True)
        return folder

    def add(self, name: str, content: bytes) -> None:
        """Write one of the bundle's files."""
        (self.path / name).write_bytes(content)

    def add_graph(self, model: Data) -> None:
        """Write a graph, moving its weights to the weights file."""
        with (self.path / WEIGHTS).open("wb") as weights:
            outline = move_weights(model, weights)
        self.add(GRAPH, outline)

    def take_graph(self, graph: Path) -> None:
        """Move a graph and the weights file beside it into the bundle; empty the scratch folder."""
        for file in (graph.with_name(WEIGHTS), graph):
            file.rename(self.path / file.name)
        _remove(self.path / SCRATCH)

    def seal(self, manifest: Manifest) -> Manifest:
        """Add the descriptions of all files to the manifest and write it; return the result."""
        files = {
            file.name: describe_file(file)
            for file in sorted(self.path.iterdir())
            if file.name in FILES
        }
        manifest = dataclasses.replace(manifest, files=files)
        (self.path / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        return manifest

    def publish(self) -> None:
        """Sync all files to disk, then rename the folder to the target and remove the old one."""
        _remove(self.path / SCRATCH)
        for file in self.path.iterdir():
            _sync(file)
        _sync(self.path)
        replaced = self.path.with_name(f"{self.path.name}.old")
        if self.target.exists():
            self._copy_ownership_of_target()
            self.target.rename(replaced)
        self.path.rename(self.target)
        _sync(self.target.parent)
        _remove(replaced)

    def _copy_ownership_of_target(self) -> None:
        for file in self.path.iterdir():
            old = self.target / file.name
            if old.is_file():
                copy_ownership(file, old.stat())
        copy_ownership(self.path, self.target.stat())


@contextmanager
def staged_bundle(target: Path) -> Iterator[Staging]:
    """Create a folder beside `target` to build a bundle in; remove it unless it is published.

    Raises ExportError if `target` exists and is not a bundle, or if the disk cannot be written to.
    """
    target = Path(os.path.realpath(expand(target)))
    if target.exists() and not (target / MANIFEST).is_file():
        raise ExportError(
            f"{target} exists and is not a bundle; name another --output or remove it"
        )
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
        path, lock = _make_locked(target)
        try:
            yield Staging(path, target)
        finally:
            _remove(path)
            if lock is not None:
                os.close(lock)
            with suppress(OSError):  # unless they hold a bundle now
                for folder in missing:
                    folder.rmdir()
    except EmbedrtError:  # some subclasses are also OSErrors
        raise
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written: {error}. Make room, or name another --output"
        ) from error


def sweep(target: Path) -> None:
    """Remove the folders of interrupted exports to `target`. Running exports hold a lock."""
    for leftover in target.parent.glob(f"{glob.escape(_prefix(target))}*"):
        lock = _lock(leftover)
        if lock is not None:
            _remove(leftover)
            os.close(lock)


def _make_locked(target: Path) -> tuple[Path, int | None]:
    while True:
        path = target.with_name(f"{_prefix(target)}{os.urandom(4).hex()}")
        path.mkdir(0o700 if target.exists() else 0o777)  # the existing bundle may be private
        lock = _lock(path, wait=True)
        if path.exists():  # otherwise another export removed it before it was locked
            return path, lock
        if lock is not None:
            os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a folder, even a read-only one, and ignore errors."""
    if folder.is_dir() and not folder.is_symlink():
        with suppress(OSError):
            folder.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".{target.name}.partial-"


def _lock(folder: Path, *, wait: bool = False) -> int | None:
    """Lock `folder` until the returned descriptor is closed or the process ends; None if locked.

    Windows can neither open a folder nor remove one that is in use, so nothing is locked or removed
    there.
    """
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sync(path: Path) -> None:
    if path.is_dir() and sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
