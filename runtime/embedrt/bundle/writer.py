"""Bundles on disk: how one comes into being.

A bundle is written into a hidden sibling folder, proven there, made durable, and only then renamed
to its name. Whatever interrupts this leaves the old bundle or none, and a folder that the next
export to the same name sweeps away.

Modes follow the umask, but a bundle that replaces another takes after it, file by file. A link to a
bundle stays: the folder that it leads to is replaced.
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
from embedrt.files import expand, take_after

if sys.platform != "win32":
    import fcntl


@dataclass(frozen=True, slots=True)
class Staging:
    """A bundle that is not one yet."""

    path: Path
    target: Path

    def add(self, name: str, content: bytes) -> None:
        """Write one of the bundle's files."""
        (self.path / name).write_bytes(content)

    def add_graph(self, model: Data) -> None:
        """Write a graph that holds its weights, with the weights beside it."""
        with (self.path / WEIGHTS).open("wb") as weights:
            outline = move_weights(model, weights)
        self.add(GRAPH, outline)

    def seal(self, manifest: Manifest) -> Manifest:
        """Describe the files in the manifest and write it; return it so completed."""
        files = {
            file.name: describe_file(file)
            for file in sorted(self.path.iterdir())
            if file.name in FILES
        }
        manifest = dataclasses.replace(manifest, files=files)
        (self.path / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        return manifest

    def publish(self) -> None:
        """Make every byte durable, then give the folder its name, in place of what had it."""
        for file in self.path.iterdir():
            _sync(file)
        _sync(self.path)
        replaced = self.path.with_name(f"{self.path.name}.old")
        if self.target.exists():
            self._take_after_target()
            self.target.rename(replaced)
        self.path.rename(self.target)
        _sync(self.target.parent)
        _remove(replaced)

    def _take_after_target(self) -> None:
        for file in self.path.iterdir():
            old = self.target / file.name
            if old.is_file():
                take_after(file, old.stat())
        take_after(self.path, self.target.stat())


@contextmanager
def staged_bundle(target: Path) -> Iterator[Staging]:
    """Make a folder beside `target` to build a bundle in; remove it unless it was published.

    Raises ExportError if `target` exists and is no bundle, for an export replaces only its own
    kind, and where the disk does not take it.
    """
    target = Path(os.path.realpath(expand(target)))
    if target.exists() and not (target / MANIFEST).is_file():
        raise ExportError(f"{target} exists and is no bundle; name another --output or remove it")
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
    except EmbedrtError:  # some are also OSErrors
        raise
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written: {error}. Make room, or name another --output"
        ) from error


def sweep(target: Path) -> None:
    """Remove what exports to `target` left behind when they died. A living one holds a lock."""
    for litter in target.parent.glob(f"{glob.escape(_prefix(target))}*"):
        lock = _lock(litter)
        if lock is not None:
            _remove(litter)
            os.close(lock)


def _make_locked(target: Path) -> tuple[Path, int | None]:
    while True:
        path = target.with_name(f"{_prefix(target)}{os.urandom(4).hex()}")
        path.mkdir(0o700 if target.exists() else 0o777)  # private where the old one may be
        lock = _lock(path, wait=True)
        if path.exists():  # else another export's sweep came between
            return path, lock
        if lock is not None:
            os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a folder, also a read-only one, if it is there and can be removed."""
    if folder.is_dir() and not folder.is_symlink():
        with suppress(OSError):
            folder.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".{target.name}.partial-"


def _lock(folder: Path, *, wait: bool = False) -> int | None:
    """Lock `folder` until the returned descriptor is closed or the process dies; None if taken.

    Windows can neither open a folder nor remove one in use: there, litter is left to its owner.
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
