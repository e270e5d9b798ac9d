"""Prepares a job: plans the source, chooses its columns, and opens the output folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import fs

from embedrt.bundle.reader import Bundle
from embedrt.corpus.arrays import text_scalar
from embedrt.corpus.computing import choose_engine
from embedrt.corpus.embedding import Embedding
from embedrt.corpus.folder import Present, find_present, open_output
from embedrt.corpus.output import read_settings
from embedrt.corpus.places import Place
from embedrt.corpus.plan import Plan
from embedrt.corpus.plan_file import load_plan, plan_again
from embedrt.corpus.schema import choose_columns, require_parquet
from embedrt.corpus.work import Work, hash_bundle, settings_of, versions
from embedrt.engine.cpu import processor_name
from embedrt.errors import CorpusOutputError, CorpusSourceError
from embedrt.postprocess import Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that is ready to run."""

    work: Work
    plan: Plan
    present: Present
    """The parts made by earlier runs."""


def prepare(
    source: Place,
    output: Place,
    bundle: Bundle,
    *,
    text: str | Sequence[str],
    columns: Sequence[str] | None,
    rows_per_part: int,
    skip_unreadable: bool,
    **options: Any,
) -> Job:
    """Check all arguments, and create or open the output folder.

    Raises CorpusSourceError, CorpusOutputError, BundleError, KernelsError or ValueError before it
    changes anything.
    """
    columns = [columns] if isinstance(columns, str) else columns
    manifest = bundle.manifest
    embedding = Embedding.of(manifest, text, **options)
    if not embedding.is_sparse:
        Finish(manifest.dimension, embedding.truncate_dim, embedding.normalize, embedding.precision)
    _require_apart(source, output)
    _require_folder(output)
    plan = plan_again(
        source,
        load_plan(output),
        rows_per_part=rows_per_part,
        skip_unreadable=skip_unreadable,
    )
    needed = None if columns is None else {*columns, *embedding.text, embedding.output_column}
    schema = plan.schema(needed)
    carried = choose_columns(
        schema,
        embedding.text,
        columns,
        embedding.output_column,
        overwrite=embedding.overwrite_column,
    )
    require_parquet(carried)
    _require_text(plan, embedding.text)
    stored = read_settings(output)
    recorded = None if stored is None else str(stored["engine"])
    engine = choose_engine(bundle, recorded, output.given)
    settings = settings_of(bundle, engine, embedding, carried, plan.digest())
    details = {
        "rows_per_part": rows_per_part,
        "versions": versions(),
        "processor": processor_name(),
        "source": source.given,
        "bundle_path": str(bundle.path.absolute()),
    }
    identity = open_output(output, settings, plan, details)
    work = Work(
        source=source,
        root=plan.root,
        output=output,
        bundle=bundle.path.absolute(),
        bundle_sha256=hash_bundle(bundle),
        engine=engine,
        dimension=manifest.dimension,
        embedding=embedding,
        carried=carried,
        partitions=_partitions(plan, schema),
        identity=identity,
    )
    return Job(work=work, plan=plan, present=find_present(output))


def _require_apart(source: Place, output: Place) -> None:
    """Raise CorpusOutputError if the output is inside the source, or the source inside it."""
    if source.contains(output) or output.contains(source):
        raise CorpusOutputError(
            f"{output.given} and the source {source.given} contain each other: a later run "
            "would read the vectors as part of the source; choose another output folder"
        )


def _require_folder(output: Place) -> None:
    """Raise CorpusOutputError if a file is in the place of the output folder."""
    if output.is_object_store:  # where an object may have the name of a folder
        return
    if output.filesystem.get_file_info(output.path).type == fs.FileType.File:
        raise CorpusOutputError(f"{output.given} is a file; choose an empty or a new folder")


def _partitions(plan: Plan, schema: Any) -> Any:
    """Return the partition columns that some file lacks.

    Raises CorpusSourceError if a folder's name cannot be converted to the type of the column in
    other files.
    """
    values = {
        key: file.source.path
        for file in plan.files
        for key in file.source.keys
        if key[0] not in file.schema.names
    }
    for (name, value), path in values.items():
        kind = schema.field(name).type
        try:
            text_scalar(value).cast(kind)
        except pa.ArrowException as error:
            raise CorpusSourceError(
                f"{path}: {name}={value} cannot be converted to {kind}, the type of this column in "
                "other files; rename the folder, or convert the column"
            ) from error
    of_folders = {name for name, _ in values}
    return pa.schema([field for field in schema if field.name in of_folders])


def _require_text(plan: Plan, text: Sequence[str]) -> None:
    """Raise CorpusSourceError if a file with rows lacks a text column."""
    for file in plan.files:
        missing = set(text) - set(file.schema.names) - {name for name, _ in file.source.keys}
        if missing and any(file.groups):
            raise CorpusSourceError(
                f"{file.source.path} has no column {min(missing)!r}; it has {file.schema.names}. "
                "Rename its column, or move the file out of the source"
            )
