"""The files of a source: found in a folder, in the order of their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from embedrt.corpus.places import Place, check_name
from embedrt.errors import CorpusSourceError

Format = Literal["parquet", "arrow", "jsonl", "csv"]

SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
}
# Lines of Spark, Ray and DuckDB have this suffix, and so do descriptions that lie beside data.
AMBIGUOUS = ".json"
COMPRESSED = (".gz", ".zst")  # of lines; Parquet and Arrow compress inside
HIDDEN = (".", "_")  # as in Hive, Spark and pyarrow: _SUCCESS, .part-0.crc
# In folders of Hugging Face's save_to_disk, whose `map` writes its results beside the data.
STATE, CACHE = "state.json", "cache-"
NULL_KEY = "__HIVE_DEFAULT_PARTITION__"
WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One data file."""

    path: str
    """Path relative to the source; the file's name if the source is one file."""
    format: Format
    size: int
    """Bytes; -1 if the file is a link that leads nowhere."""
    modified_ns: int
    """Time of the last change, 0 if the file system has none."""
    keys: tuple[tuple[str, str | None], ...] = ()
    """Hive partitions from the names of the folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The data files of a source, and the skipped files."""

    root: str
    """The path that the files' paths are relative to."""
    files: tuple[SourceFile, ...]
    skipped: tuple[str, ...]
    """Paths of files that are not data files."""

    def path_of(self, file: SourceFile) -> str:
        """Return the path in the source's file system."""
        return f"{self.root}/{file.path}"


def list_source(place: Place) -> Listing:
    """List the data files of a file or folder, in the order of their paths.

    Raises CorpusSourceError if there is no such place, or no data file in it.
    """
    info = place.filesystem.get_file_info(place.path)
    if info.type == fs.FileType.NotFound:
        raise CorpusSourceError(f"{place.given}: there is no such file or folder")
    if info.type == fs.FileType.Unknown:
        raise CorpusSourceError(
            f"{place.given} is neither a file nor a folder (a pipe, for example); write its "
            "content to a file, because a source is read more than once"
        )
    if info.type == fs.FileType.File:
        root = _folder_of(place.path)
        found = [info]
    else:
        root = place.path
        found = list(_entries(place, place.path))
    files, skipped = [], []
    saved = {_folder_of(one.path) for one in found if one.base_name == STATE}
    for one in sorted(found, key=lambda one: one.path):
        if one.type == fs.FileType.Directory:
            continue
        relative = one.path[len(root) :].lstrip("/")
        # A file that the caller names is read even if its name marks it as hidden.
        kind = format_of(relative if info.type != fs.FileType.File else relative.lstrip("._"))
        missing = one.type == fs.FileType.NotFound  # a link that leads nowhere
        if one.base_name.startswith(CACHE) and _folder_of(one.path) in saved:
            kind = None
        if kind is None or not (missing or one.type == fs.FileType.File):
            skipped.append(relative)
            continue
        files.append(
            SourceFile(
                path=relative,
                format=kind,
                size=-1 if missing else one.size or 0,
                modified_ns=one.mtime_ns or 0,
                keys=hive_keys(relative),
            )
        )
    if certain := [file for file in files if _suffix_of(file.path) != AMBIGUOUS]:
        skipped += [file.path for file in files if _suffix_of(file.path) == AMBIGUOUS]
        files = certain
    if not files:
        others = f" among its {len(skipped)} files" if skipped else ""
        raise CorpusSourceError(
            f"{place.given}: there is no data file{others}; expected "
            f"{', '.join(sorted(SUFFIXES))}, or {' or '.join(COMPRESSED)} files of lines"
        )
    return Listing(root=root, files=tuple(files), skipped=tuple(sorted(skipped)))


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def _entries(
    place: Place, folder: str, above: frozenset[str] = frozenset()
) -> Iterator[fs.FileInfo]:
    """Yield what lies in a folder, at any depth, but not in a link to a folder that it lies in."""
    if not place.is_local:
        yield from place.filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
        return
    above |= {os.path.realpath(folder)}
    names = set(os.listdir(folder))  # noqa: PTH208
    for name in names:
        check_name(f"{folder}/{name}")
    found = place.filesystem.get_file_info(fs.FileSelector(folder))
    for name in names - {info.base_name for info in found}:
        yield fs.FileInfo(f"{folder}/{name}", fs.FileType.NotFound)
    for info in found:
        yield info
        if info.type == fs.FileType.Directory and os.path.realpath(info.path) not in above:
            yield from _entries(place, info.path, above)


def format_of(relative: str) -> Format | None:
    """Return the format from a file's suffix; None if it is hidden or not a data file."""
    path = PurePosixPath(relative)
    # A hidden folder hides its content, but a partition's key may begin with an underscore.
    if any(part.startswith(HIDDEN) and "=" not in part for part in path.parts):
        return None
    kind = SUFFIXES.get(_suffix_of(relative))
    compressed = path.suffix.lower() in COMPRESSED
    return None if compressed and kind not in ("jsonl", "csv") else kind


def _suffix_of(relative: str) -> str:
    """Return the suffix that names a file's format, in lower case, without that of compression."""
    path = PurePosixPath(relative.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def hive_keys(relative: str) -> tuple[tuple[str, str | None], ...]:
    """Return the partitions that the folders of a path name: ``year=2024/lang=en``."""
    keys = []
    for part in PurePosixPath(relative).parts[:-1]:
        name, equals, value = part.partition("=")
        if equals and name:
            keys.append((unquote(name), None if value == NULL_KEY else unquote(value)))
    return tuple(keys)


def partition_schema(files: Sequence[SourceFile]) -> pa.Schema:
    """Return the partition columns: int64 if all values are whole numbers, otherwise string."""
    values: dict[str, set[str]] = {}
    for file in files:
        for name, value in file.keys:
            values.setdefault(name, set()).update([] if value is None else [value])
    return pa.schema(
        [
            (name, pa.int64() if found and all(map(_is_number, found)) else pa.string())
            for name, found in values.items()
        ]
    )


def _is_number(value: str) -> bool:
    return WHOLE_NUMBER.fullmatch(value) is not None and value != "-0"
