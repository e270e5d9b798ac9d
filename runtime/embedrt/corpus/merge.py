"""Merges the parts of a complete output into larger files.

A merged file holds consecutive parts, and is named by the first and the last. It is written under a
temporary name and renamed, and then its parts are removed. If both exist, the next run removes the
parts. `_SUCCESS` is absent during a merge, because readers could see rows twice.
"""

from __future__ import annotations

import json
import re
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embedrt.corpus.digest import add_digests, read_digest, spell_digest
from embedrt.corpus.output import (
    FACTS,
    ONNX_RUNTIME,
    PartFacts,
    open_parquet,
    parquet_options,
    read_facts,
    read_record,
    remove,
    write_file,
)
from embedrt.corpus.places import Place
from embedrt.corpus.plan import Part
from embedrt.errors import CorpusOutputError

NAME = re.compile(r"(\d{6,})-r(\d{10,})-to-(\d{6,})-r(\d{10,})\.parquet")
MEGABYTE = 1_000_000
LISTS = ("parts", "processors", "engines")  # among the facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The name of a merged file: all parts from the first to the last."""

    name: str
    first: tuple[int, int]
    """Key of the first part."""
    last: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedFacts:
    """The facts on a merged file, stored in its metadata."""

    name: str
    parts: tuple[str, ...]
    """Names of its parts, in the order of the rows."""
    rows: int
    nulls: int
    cut: int
    digest: str
    identity: str
    processors: tuple[str, ...]
    engines: tuple[str, ...] = (ONNX_RUNTIME,)


def merged_of(name: str) -> Merged | None:
    """Parse a file's name; return None if it is not a merged file."""
    if (found := NAME.fullmatch(name)) is None:
        return None
    numbers = [int(number) for number in found.groups()]
    return Merged(name=name, first=(numbers[0], numbers[1]), last=(numbers[2], numbers[3]))


def holder_of(merged: Sequence[Merged], key: tuple[int, int]) -> Merged | None:
    """Return the merged file that holds a part; `merged` must be in the order of their parts."""
    index = bisect_right(merged, key, key=lambda one: one.first) - 1
    return merged[index] if index >= 0 and key <= merged[index].last else None


def read_merged(place: Place, merged: Merged) -> MergedFacts:
    """Return the facts in the metadata of a merged file. Raises CorpusOutputError."""

    def parse(facts: dict[str, Any]) -> MergedFacts:
        lists = {name: tuple(facts[name]) for name in LISTS if name in facts}
        return MergedFacts(**{**facts, **lists})

    return read_record(place, merged.name, parse)


def merge_parts(
    place: Place, parts: Iterable[Part], *, megabytes: float, column: str, text: tuple[str, ...]
) -> None:
    """Join consecutive parts into files of about this size."""
    group, size = list[Part](), 0
    for part in parts:
        group.append(part)
        size += place.filesystem.get_file_info(place.join(part.name)).size
        if size >= megabytes * MEGABYTE:
            _merge(place, group, column, text)
            group, size = [], 0
    if group:
        _merge(place, group, column, text)


def _merge(place: Place, parts: Sequence[Part], column: str, text: tuple[str, ...]) -> None:
    first, last = parts[0], parts[-1]
    name = f"{first.file:06d}-r{first.first:010d}-to-{last.file:06d}-r{last.first:010d}.parquet"
    found = [read_facts(place, part.name) for part in parts]
    facts = _join(name, found)
    with tempfile.TemporaryDirectory() as folder:
        # A local file first, so that the whole is written from one buffer: see output.py.
        local = str(Path(folder) / "merged")
        with open_parquet(place, first.name) as one:
            schema = one.schema_arrow.with_metadata({FACTS: json.dumps(asdict(facts))})
        with pq.ParquetWriter(local, schema, **parquet_options(schema, column, text)) as writer:
            for part in parts:
                with open_parquet(place, part.name) as one:
                    table: Any = one.read(use_threads=False)
                writer.write_table(
                    table.replace_schema_metadata(schema.metadata), row_group_size=len(table)
                )
        with pa.memory_map(local) as mapped:
            write_file(place, name, mapped.read_buffer())
    for part in parts:
        remove(place, part.name)


def _join(name: str, found: Sequence[PartFacts]) -> MergedFacts:
    whole = MergedFacts(
        name=name,
        parts=tuple(one.name for one in found),
        rows=sum(one.rows for one in found),
        nulls=sum(one.nulls for one in found),
        cut=sum(one.cut for one in found),
        digest=spell_digest(add_digests(read_digest(one.digest) for one in found)),
        identity=found[0].identity,
        processors=tuple(sorted({one.processor for one in found})),
        engines=tuple(sorted({one.engine for one in found})),
    )
    if others := {one.identity for one in found} - {whole.identity}:
        raise CorpusOutputError(f"{name}: its parts are of {len(others) + 1} different runs")
    return whole
