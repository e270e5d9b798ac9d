"""Stores the plan in the output folder, so that later runs need not read all footers again."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embedrt.corpus.output import PLAN, write_file
from embedrt.corpus.places import Place
from embedrt.corpus.plan import Plan, PlannedFile, make_plan
from embedrt.corpus.source import SourceFile, hive_keys, list_source
from embedrt.errors import CorpusOutputError

COLUMNS = pa.schema(
    [
        ("path", pa.string()),
        ("format", pa.string()),
        ("size", pa.int64()),
        ("modified_ns", pa.int64()),
        ("groups", pa.list_(pa.int64())),
        ("schema", pa.int32()),
        ("error", pa.string()),
    ]
)
SCHEMAS, ROWS_PER_PART, SKIPPED = b"schemas", b"rows_per_part", b"skipped"


def save_plan(place: Place, plan: Plan) -> None:
    """Write the plan to the output folder."""
    schemas: dict[Any, int] = {}
    rows = [
        (
            file.source.path,
            file.source.format,
            file.source.size,
            file.source.modified_ns,
            file.groups,
            schemas.setdefault(file.schema, len(schemas)),
            file.error,
        )
        for file in plan.files
    ]
    arrays = [
        pa.array(list(column), field.type)
        for column, field in zip(zip(*rows, strict=True), COLUMNS, strict=True)
    ]
    encoded = [base64.b64encode(schema.serialize()).decode() for schema in schemas]
    metadata = {
        SCHEMAS: json.dumps(encoded),
        ROWS_PER_PART: str(plan.rows_per_part),
        SKIPPED: json.dumps(plan.skipped),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, schema=COLUMNS.with_metadata(metadata)), sink)
    write_file(place, PLAN, sink.getvalue())


def load_plan(place: Place, root: str = "") -> Plan | None:
    """Return the plan stored in the output folder; None if there is none."""
    try:
        with place.filesystem.open_input_file(place.join(PLAN)) as stream:
            table = pq.ParquetFile(stream).read()
    except FileNotFoundError:
        return None
    except pa.ArrowException as error:
        raise _damaged(place, error) from error
    try:
        metadata = table.schema.metadata
        schemas = [
            pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
            for text in json.loads(metadata[SCHEMAS])
        ]
        files = tuple(
            PlannedFile(
                source=SourceFile(
                    path=row["path"],
                    format=row["format"],
                    size=row["size"],
                    modified_ns=row["modified_ns"],
                    keys=hive_keys(row["path"]),
                ),
                groups=tuple(row["groups"]),
                schema=schemas[row["schema"]],
                error=row["error"],
            )
            for row in table.to_pylist()
        )
        return Plan(
            files=files,
            rows_per_part=int(metadata[ROWS_PER_PART]),
            root=root,
            skipped=tuple(json.loads(metadata[SKIPPED])),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(place, error) from error


def _damaged(place: Place, error: Exception) -> CorpusOutputError:
    return CorpusOutputError(f"{place.join(PLAN)} is damaged ({error!r}); embed into a new folder")


def plan_again(
    source: Place, stored: Plan | None, *, rows_per_part: int, skip_unreadable: bool
) -> Plan:
    """Return the plan of a source; the stored one if its files are the same by size and time."""
    if stored is not None and not stored.unreadable and stored.rows_per_part == rows_per_part:
        listing = list_source(source)
        if listing.files == tuple(file.source for file in stored.files):
            return replace(stored, root=listing.root, skipped=listing.skipped)
    return make_plan(source, rows_per_part=rows_per_part, skip_unreadable=skip_unreadable)


def differences(stored: Plan, plan: Plan) -> list[str]:
    """Return the differences between two plans, as one sentence for each kind of difference.

    A file that was unreadable before is not a difference, because it has no parts yet.
    """
    found = []
    if stored.rows_per_part != plan.rows_per_part:
        found.append(f"rows per part: {stored.rows_per_part} before, {plan.rows_per_part} now")
    before = {file.source.path: file for file in stored.files}
    now = {file.source.path: file for file in plan.files}
    changed = [
        path
        for path in before.keys() & now.keys()
        if before[path].error is None
        and (before[path].source != now[path].source or before[path].groups != now[path].groups)
    ]
    for what, paths in (
        ("added", now.keys() - before.keys()),
        ("gone", before.keys() - now.keys()),
        ("changed", changed),
    ):
        if paths:
            first, *others = sorted(paths)
            more = f" and {len(others)} more" if others else ""
            found.append(f"{what}: {first}{more}")
    return found
