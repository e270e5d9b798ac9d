"""Places of sources and outputs: a path, a URI, or a path in a given file system."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs

from embedrt.errors import CorpusSourceError
from embedrt.files import expand

# Of pyarrow's and fsspec's names. An object appears whole when its upload ends, and cannot be
# renamed.
OBJECT_STORES = frozenset(["s3", "s3a", "gcs", "gs", "abfs", "abfss", "az", "adl", "oss", "r2"])

HERE = frozenset(["local", "py::fsspec+('file', 'local')"])  # their paths are this machine's


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A path of a file system. Picklable."""

    filesystem: Any
    """A ``pyarrow.fs.FileSystem``."""
    path: str
    """Without a trailing slash."""
    given: str
    """The place as the user wrote it, for messages."""

    @property
    def is_local(self) -> bool:
        """Whether this is a path of the operating system."""
        return bool(self.filesystem.type_name == "local")

    @property
    def is_object_store(self) -> bool:
        """Whether files appear whole when they are closed, and cannot be renamed."""
        kinds = str(self.filesystem.type_name).removeprefix("py::fsspec+").split(",")
        return any(kind.strip(" ()'\"") in OBJECT_STORES for kind in kinds)

    def join(self, name: str) -> str:
        """Return the path of a file in this folder."""
        return f"{self.path}/{name}" if name else self.path

    def contains(self, other: Place) -> bool:
        """Whether the other place is this one or is inside it."""
        paths = self.path, other.path
        if {self.filesystem.type_name, other.filesystem.type_name} <= HERE:
            paths = os.path.realpath(self.path), os.path.realpath(other.path)
        elif not self.filesystem.equals(other.filesystem):
            return False
        return f"{paths[1]}/".startswith(f"{paths[0]}/")


def find_place(given: str | Path | Place, filesystem: Any = None) -> Place:
    """Return the place that a path or URI names.

    Parameters
    ----------
    given
        A path of this machine (``~`` expands); with `filesystem`, a path of it; or a URI of one of
        pyarrow's file systems: ``s3://bucket/folder?region=eu-west-1``, ``gs://``, ``abfs://``,
        ``hdfs://``, ``file://``.
    filesystem
        A pyarrow or fsspec file system.

    Raises
    ------
    CorpusSourceError
        pyarrow has no file system for the URI.
    """
    if isinstance(given, Place):
        return given
    text = str(given)
    if filesystem is not None:
        return _place(_as_pyarrow(filesystem), text, text)
    check_name(text)
    if "://" not in text:
        return _place(fs.LocalFileSystem(), os.path.realpath(expand(given)), text)
    try:
        found, path = fs.FileSystem.from_uri(text)
    except (ValueError, OSError) as error:
        raise CorpusSourceError(
            f"{text}: {error}; expected a path, or a URI of s3, gs, abfs, hdfs or file. For the "
            "file systems of fsspec call embedrt.corpus.embed with source_filesystem="
        ) from error
    place = _place(found, path, text)
    if place.is_object_store and not place.path:
        raise CorpusSourceError(f"{text} names no bucket; expected s3://BUCKET/FOLDER")
    return place


def check_name(path: str) -> None:
    """Raise CorpusSourceError for a path that is not UTF-8, which pyarrow cannot pass on."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise CorpusSourceError(f"{path!a}: the name is not UTF-8; rename it") from None


def _as_pyarrow(filesystem: Any) -> Any:
    if isinstance(filesystem, fs.FileSystem):
        return filesystem
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem))


def _place(filesystem: Any, path: str, given: str) -> Place:
    check_name(path)
    if os.sep != "/" and filesystem.type_name == "local":
        path = path.replace(os.sep, "/")
    return Place(filesystem=filesystem, path=path.rstrip("/"), given=given)
