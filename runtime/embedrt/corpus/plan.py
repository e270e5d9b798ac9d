"""The plan: the parts of a corpus, determined by the source's files alone.

A part is a run of rows of one file. A row group that is larger than a part is divided; smaller row
groups of one file are joined. The plan holds a few numbers for each row group and generates the
parts, so that its size depends neither on the rows nor on the parts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from embedrt.corpus.places import Place, find_place
from embedrt.corpus.reading import describe
from embedrt.corpus.schema import unify
from embedrt.corpus.source import Listing, SourceFile, list_source, partition_schema
from embedrt.errors import CorpusSourceError

ROWS_PER_PART = 4000
READERS = 16  # footers read in parallel; a footer in an object store takes 50 ms

NAME = re.compile(r"(\d{6,})-.*-g(\d{5,})-r(\d{10,})\.parquet")
STEM_CHARACTERS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A run of rows of one file."""

    file: int
    """Number of the file in the plan."""
    group: int
    """Number of the row group with the first row."""
    first: int
    """Number of the first row in the file."""
    rows: int
    name: str
    """Name of the part's file, from file, row group and first row."""

    @property
    def key(self) -> tuple[int, int]:
        """File and first row, which identify the part in its plan."""
        return self.file, self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file with its rows."""

    source: SourceFile
    groups: tuple[int, ...]
    """Rows of each row group; empty if the file cannot be read."""
    schema: Any
    """The file's own columns."""
    error: str | None = None
    """Why the file cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All files of a source, in the order of their paths, and their parts."""

    files: tuple[PlannedFile, ...]
    rows_per_part: int
    root: str
    """The path that the files' paths are relative to."""
    skipped: tuple[str, ...] = ()
    """Files that are not data files."""

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(sum(file.groups) for file in self.files)

    @property
    def unreadable(self) -> tuple[PlannedFile, ...]:
        """The files that cannot be read."""
        return tuple(file for file in self.files if file.error is not None)

    def parts(self) -> Iterator[Part]:
        """Yield the parts, in the order of the rows."""
        for number in range(len(self.files)):
            yield from self.parts_of(number)

    def parts_of(self, number: int) -> Iterator[Part]:
        """Yield the parts of one file."""
        file = self.files[number]
        stem = _stem(file.source.path)
        for group, first, rows in _runs(file.groups, self.rows_per_part):
            yield Part(
                file=number,
                group=group,
                first=first,
                rows=rows,
                name=f"{number:06d}-{stem}-g{group:05d}-r{first:010d}.parquet",
            )

    def schema(self, needed: Collection[str] | None = None) -> Any:
        """Return the columns of all files, including partitions from the names of folders.

        The types of columns that are not in `needed` may differ among files.
        """
        distinct: dict[Any, str] = {}  # of a hundred thousand files, few differ
        for file in self.files:
            if file.error is None:
                distinct.setdefault(file.schema, file.source.path)
        whole = unify(((path, schema) for schema, path in distinct.items()), needed)
        for field in partition_schema([file.source for file in self.files]):
            if field.name not in whole.names:  # some writers keep the partition's column as well
                whole = whole.append(field)
        return whole

    def digest(self) -> str:
        """Return a hash of all files, with their sizes, times and rows, and of the parts' size."""
        whole = hashlib.sha256(f"{self.rows_per_part}\n".encode())
        for file in self.files:
            whole.update(repr(fingerprint(file)).encode())
        return whole.hexdigest()


def plan(
    source: str | Path, *, rows_per_part: int = ROWS_PER_PART, source_filesystem: Any = None
) -> Plan:
    """Return the parts of a source, from its footers alone.

    Raises CorpusSourceError if there is no data file, or one cannot be read.
    """
    return make_plan(find_place(source, source_filesystem), rows_per_part=rows_per_part)


def make_plan(
    place: Place, *, rows_per_part: int = ROWS_PER_PART, skip_unreadable: bool = False
) -> Plan:
    """Plan a source: read its footers, or count the rows where the format has none.

    Raises CorpusSourceError if there is no data file, or one cannot be read; with
    `skip_unreadable`, such files are noted in the plan instead.
    """
    if rows_per_part < 1:
        raise CorpusSourceError(f"rows_per_part={rows_per_part}; expected at least 1")
    listing = list_source(place)
    with ThreadPoolExecutor(READERS) as pool:
        files = tuple(pool.map(partial(_plan_file, place, listing), listing.files))
    planned = Plan(
        files=_with_equal_schemas_shared(files),
        rows_per_part=rows_per_part,
        root=listing.root,
        skipped=listing.skipped,
    )
    if planned.unreadable and not skip_unreadable:
        raise CorpusSourceError("; ".join(str(file.error) for file in planned.unreadable))
    return planned


def fingerprint(file: PlannedFile) -> tuple[Any, ...]:
    """Return the properties of a source that must not change while it is embedded."""
    source = file.source
    return source.path, source.size, source.modified_ns, file.groups


def key_of(name: str) -> tuple[int, int] | None:
    """Parse the file and first row in a part's name; return None for any other name."""
    found = NAME.fullmatch(name)
    return (int(found[1]), int(found[3])) if found else None


def _plan_file(place: Place, listing: Listing, file: SourceFile) -> PlannedFile:
    try:
        contents = describe(place, listing.path_of(file), file)
    except CorpusSourceError as error:
        return PlannedFile(source=file, groups=(), schema=pa.schema([]), error=str(error))
    return PlannedFile(source=file, groups=contents.groups, schema=contents.schema)


def _with_equal_schemas_shared(files: tuple[PlannedFile, ...]) -> tuple[PlannedFile, ...]:
    known: dict[Any, Any] = {}
    return tuple(replace(file, schema=known.setdefault(file.schema, file.schema)) for file in files)


def _runs(groups: tuple[int, ...], most: int) -> Iterator[tuple[int, int, int]]:
    """Yield row group, first row and rows of each part of a file."""
    start = 0  # of the row group
    joined, first, rows = 0, 0, 0  # row groups that wait to be joined with the next
    for group, count in enumerate(groups):
        if rows and rows + count > most:
            yield joined, first, rows
            rows = 0
        if count > most:
            # Of equal size: a last part of ten rows costs as much as one of a thousand.
            pieces = -(-count // most)
            for piece in range(pieces):
                begin, end = count * piece // pieces, count * (piece + 1) // pieces
                yield group, start + begin, end - begin
        elif count:
            if not rows:
                joined, first = group, start
            rows += count
        start += count
    if rows:
        yield joined, first, rows


def _stem(path: str) -> str:
    name = PurePosixPath(path).name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_]+", "_", name)[:STEM_CHARACTERS] or "file"
