"""The files of the output folder, which are written atomically.

On a file system, a file is written under a temporary name and renamed. Object stores cannot rename,
but an object appears only when its upload is complete. Each file is written from one buffer,
because closing an upload after an exception would complete it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from embedrt.corpus.places import Place
from embedrt.errors import CorpusOutputError

SETTINGS = "_embedrt.json"
REQUIRED = {"bundle", "bundle_path", "text", "output_column", "columns", "plan", "identity"}
PLAN = "_plan"  # Parquet, without the suffix, because `*.parquet` matches the vectors
SUCCESS = "_SUCCESS"
TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}")
FACTS = b"embedrt"  # key of the metadata of a part's file
ONNX_RUNTIME = "ONNX Runtime"  # the engine of outputs that do not record theirs
COMPRESSION_LEVEL = 1  # of zstd; vectors are noise, which higher levels do not compress better

Facts = TypeVar("Facts")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """The facts on a written part, stored in the metadata of its file."""

    name: str
    source: str
    """The source file's path, relative to the source."""
    first: int
    """The number of the first row in that file."""
    rows: int
    nulls: int
    cut: int
    """Number of texts that were truncated."""
    digest: str
    """Digest of the rows; see `embedrt.corpus.digest`."""
    identity: str
    """Hash of the settings and the plan."""
    processor: str
    """Kind of the processor that computed the vectors."""
    engine: str = ONNX_RUNTIME
    """The engine that computed them: ONNX Runtime, or kernels and their path."""


def write_file(place: Place, name: str, content: Any) -> None:
    """Write a file of the output atomically; `content` is bytes or a buffer."""
    target = place.join(name)
    if place.is_object_store:
        with place.filesystem.open_output_stream(target) as stream:
            stream.write(content)
        return
    if place.is_local:
        try:
            _write_and_rename(place, target, content)
        except FileNotFoundError:  # a second run has removed it as left over
            _write_and_rename(place, target, content)
        return
    beside = _beside(place)
    with place.filesystem.open_output_stream(beside) as stream:
        stream.write(content)
    place.filesystem.move(beside, target)


def _beside(place: Place) -> str:
    return place.join(f".tmp-{os.urandom(8).hex()}")


def _write_and_rename(place: Place, target: str, content: Any) -> None:
    beside = _beside(place)
    try:
        with open(beside, "xb") as file:  # noqa: PTH123 - a path of the file system's own kind
            file.write(content)
            file.flush()
            # Else the name could outlive a power failure, and not the rows.
            os.fsync(file.fileno())
        os.replace(beside, target)  # noqa: PTH105
    except OSError:
        with suppress(OSError):
            os.unlink(beside)  # noqa: PTH108 - on a full disk, it would take the space
        raise


def write_json(place: Place, name: str, content: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_file(place, name, (json.dumps(content, indent=2) + "\n").encode())


def read_json(place: Place, name: str) -> dict[str, Any] | None:
    """Return the content of a JSON file; None if there is no such file."""
    try:
        with place.filesystem.open_input_stream(place.join(name)) as stream:
            content: dict[str, Any] = dict(json.loads(stream.read()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise CorpusOutputError(
            f"{place.join(name)} is damaged ({error}); embed into a new folder"
        ) from error
    return content


def read_settings(place: Place) -> dict[str, Any] | None:
    """Return the settings that determine an output's bytes; None if there is no output.

    Raises CorpusOutputError as `read_json`.
    """
    stored = read_json(place, SETTINGS)
    if stored is None:
        return None
    if lost := REQUIRED - stored.keys():
        raise CorpusOutputError(
            f"{place.join(SETTINGS)} is damaged (it has no {min(lost)}); embed into a new folder"
        )
    return {"engine": ONNX_RUNTIME, **stored}


def list_names(place: Place) -> list[str]:
    """Return the names of the files in the output folder, sorted. Empty if there is none."""
    selector = fs.FileSelector(place.path, allow_not_found=True)
    infos = place.filesystem.get_file_info(selector)
    return sorted(info.base_name for info in infos if info.type == fs.FileType.File)


def remove(place: Place, name: str) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError):
        place.filesystem.delete_file(place.join(name))


def remove_temporary_files(place: Place) -> None:
    """Remove the temporary files that killed processes left behind."""
    for name in list_names(place):
        if TEMPORARY.fullmatch(name):
            remove(place, name)


def parquet_buffer(table: Any, output: str, text: tuple[str, ...]) -> Any:
    """Return a table as the bytes of a Parquet file, with options for vectors in `output`."""
    sink = pa.BufferOutputStream()
    # One row group; a merged file has one for each part.
    pq.write_table(
        table,
        sink,
        row_group_size=max(1, len(table)),
        **parquet_options(table.schema, output, text),
    )
    return sink.getvalue()


def parquet_options(schema: Any, output: str, text: tuple[str, ...]) -> dict[str, Any]:
    """Return the options for writing a file with vectors.

    Byte stream split puts bytes of equal significance together, so that zstd compresses them.
    Vectors get no dictionary and no statistics: pyarrow's defaults take three times the time and
    twice the space.
    """
    others = [
        field.name
        for field in schema
        if field.name != output and not pa.types.is_nested(field.type)
    ]
    kind = schema.field(output).type
    sparse = pa.types.is_struct(kind)
    place = f"{output}.values" if sparse else output
    split = {"column_encoding": {f"{place}.list.element": "BYTE_STREAM_SPLIT"}}
    return {
        "compression": "zstd",
        "compression_level": COMPRESSION_LEVEL,
        "use_dictionary": [name for name in others if name not in text],
        "write_statistics": others,
        **(split if sparse or pa.types.is_floating(kind.value_type) else {}),
    }


def with_facts(table: Any, facts: PartFacts) -> Any:
    """Return the table with the facts on its part in its metadata."""
    return table.replace_schema_metadata({FACTS: json.dumps(asdict(facts)).encode()})


def read_facts(place: Place, name: str) -> PartFacts:
    """Return the facts in the metadata of a part's file. Raises CorpusOutputError."""
    return read_record(place, name, lambda facts: PartFacts(**facts))


def read_record(place: Place, name: str, parse: Callable[[dict[str, Any]], Facts]) -> Facts:
    """Return the facts in the metadata of a file, parsed. Raises CorpusOutputError."""
    try:
        with place.filesystem.open_input_file(place.join(name)) as stream:
            metadata = pq.read_schema(stream).metadata or {}
            return parse(json.loads(metadata[FACTS]))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise CorpusOutputError(
            f"{place.join(name)} is damaged or not a part of this output ({error!r}); remove it "
            "and run again"
        ) from error


def open_parquet(place: Place, name: str) -> Any:
    """Open a Parquet file of the output."""
    return pq.ParquetFile(place.filesystem.open_input_file(place.join(name)))


def visible(names: list[str]) -> Iterator[str]:
    """Yield the names that readers of Parquet folders do not skip."""
    return (name for name in names if not name.startswith((".", "_")))
