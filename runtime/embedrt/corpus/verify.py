"""Verifies an output: no row is lost, duplicated or changed.

Every row is counted and hashed again. A sample of the rows is recomputed and compared bit for bit,
or to a tolerance if another kind of processor or another engine computed them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedrt.arguments import check_count
from embedrt.bundle.reader import Bundle
from embedrt.corpus.digest import add_digests, digest_rows, spell_digest
from embedrt.corpus.embedding import Embedding
from embedrt.corpus.folder import present_in
from embedrt.corpus.merge import Merged, MergedFacts, holder_of, read_merged
from embedrt.corpus.output import (
    SUCCESS,
    list_names,
    open_parquet,
    read_facts,
    read_json,
    read_settings,
    visible,
)
from embedrt.corpus.places import Place, find_place
from embedrt.corpus.plan import Part, Plan
from embedrt.corpus.plan_file import differences, load_plan, plan_again
from embedrt.corpus.sample import Again, Sampled, choose_rows, compute_again, read_texts
from embedrt.corpus.table import read_column, texts_of
from embedrt.errors import CorpusOutputError

SHOWN = 10  # problems in a message

Makers = tuple[tuple[str, ...], tuple[str, ...]]
"""The kinds of processors and the engines; one of each computed the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a verification."""

    rows: int
    parts: int
    nulls: int
    digest: str
    against_source: bool
    """Whether the files of the source are those of the plan."""
    again: Again
    """The rows whose vectors were recomputed."""


def verify_output(
    output: str | Path,
    *,
    source: str | Path | None = None,
    bundle: str | Path | None = None,
    sample: int = 100,
    seed: int | None = None,
    source_filesystem: Any = None,
    output_filesystem: Any = None,
) -> Verification:
    """Verify every row of an output, and recompute a sample of the rows.

    Parameters
    ----------
    output
        The output folder.
    source
        The source, for comparison; by default the sample's texts come from the output.
    bundle
        The bundle's folder; by default its location when the output was made.
    sample
        Number of rows to recompute: in the engine selected by `EMBEDRT_KERNELS`, by default the one
        that computed them if it runs here.
    seed
        Seed of the sample; by default a different sample each time.

    Raises
    ------
    CorpusOutputError
        The output is incomplete or differs from its records. The message lists all problems.
    CorpusSourceError
        The source cannot be read.
    BundleError
        The bundle cannot be read.
    """
    check_count("sample", sample, 0)
    place = find_place(output, output_filesystem)
    settings, plan = read_settings(place), load_plan(place)
    if settings is None or plan is None:
        raise CorpusOutputError(f"{place.given} is not an output of embedrt embed")
    embedding = Embedding.from_json(settings)
    problems = list(_wrong_files(place, plan))
    rows, nulls, digests, sampled = 0, 0, [], list[Sampled]()
    chosen = choose_rows(plan, sample, seed)
    for part, table, makers in _tables(place, plan, settings["identity"], problems):
        vectors, valid = read_column(table.column(embedding.output_column))
        path = plan.files[part.file].source.path
        rows, nulls = rows + part.rows, nulls + part.rows - int(valid.sum())
        digests.append(digest_rows(path, part.first, vectors, valid))
        picked = [row for row in chosen.get(part.file, ()) if 0 <= row - part.first < part.rows]
        # The vectors may stand in place of the texts.
        columns = set(table.column_names) - {embedding.output_column}
        known = source is None and set(embedding.text) <= columns
        texts = texts_of(table, embedding) if known and picked else None
        sampled += _sample(part, picked, vectors, valid, texts, makers, is_known=known)
    digest = spell_digest(add_digests(digests))
    problems += _differences_from_success(place, rows=rows, nulls=nulls, digest=digest)
    if source is not None:
        files = find_place(source, source_filesystem)
        now = plan_again(files, None, rows_per_part=plan.rows_per_part, skip_unreadable=True)
        problems += [f"the source differs, {one}" for one in differences(plan, now)]
        if not problems:
            sampled = read_texts(files, now, embedding, sampled)
    if not problems:
        again = compute_again(
            lambda: Bundle.open(bundle or settings["bundle_path"]), settings, embedding, sampled
        )
        problems += again.problems
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise CorpusOutputError(f"{place.given}: {'; '.join(problems[:SHOWN])}{more}")
    return Verification(
        rows=rows,
        parts=len(digests),
        nulls=nulls,
        digest=digest,
        against_source=source is not None,
        again=again,
    )


def _sample(
    part: Part,
    rows: Sequence[int],
    vectors: NDArray[Any],
    valid: NDArray[np.bool_],
    texts: Sequence[str | None] | None,
    makers: Makers,
    *,
    is_known: bool,
) -> Iterator[Sampled]:
    """Yield these rows of a part, by their numbers in the source file."""
    for row in rows:
        place = row - part.first
        yield Sampled(
            part=part,
            row=row,
            vector=vectors[place] if valid[place] else None,
            text=None if texts is None else texts[place],
            is_known=is_known,
            processors=makers[0],
            engines=makers[1],
        )


def _wrong_files(place: Place, plan: Plan) -> Iterator[str]:
    """Yield the problems with the names of the files: missing, duplicate or foreign."""
    names = list_names(place)
    present, doubled = present_in(names)
    yield from (f"{name} is also in a merged file: run embedrt embed again" for name in doubled)
    yield from (f"{file.source.path} could not be read" for file in plan.unreadable)
    planned = {part.name for part in plan.parts()} | {one.name for one in present.merged}
    yield from (f"{part.name} is missing" for part in plan.parts() if part not in present)
    yield from (
        f"{name} is not part of this plan" for name in visible(names) if name not in planned
    )


def _tables(
    place: Place, plan: Plan, identity: str, problems: list[str]
) -> Iterator[tuple[Part, Any, Makers]]:
    """Yield each part with its table and its maker; append unreadable ones to the problems."""
    present, _ = present_in(list_names(place))
    merged = cache(partial(read_merged, place))
    for part in plan.parts():
        if part not in present:
            continue
        holder = holder_of(present.merged, part.key)
        try:
            table, makers = _read(place, part, holder, merged, identity)
        except (CorpusOutputError, pa.ArrowException, OSError, ValueError) as error:
            problems.append(f"{part.name} cannot be read: {error}")
            continue
        yield part, table, makers


def _read(
    place: Place,
    part: Part,
    holder: Merged | None,
    merged: Callable[[Merged], MergedFacts],
    identity: str,
) -> tuple[Any, Makers]:
    """Return a part's table and its maker, from its own file or from a merged one."""
    if holder is None:
        facts = read_facts(place, part.name)
        name, group, found = part.name, 0, facts.identity
        makers: Makers = ((facts.processor,), (facts.engine,))
    else:
        whole = merged(holder)
        name, group, found = holder.name, whole.parts.index(part.name), whole.identity
        makers = whole.processors, whole.engines
    if found != identity:
        raise CorpusOutputError(f"{name} was made by a run with other settings")
    with open_parquet(place, name) as file:
        table = file.read_row_group(group, use_threads=False)
    if len(table) != part.rows:
        raise CorpusOutputError(f"{part.name} has {len(table)} rows, planned {part.rows}")
    return table, makers


def _differences_from_success(place: Place, **found: Any) -> list[str]:
    success = read_json(place, SUCCESS)
    if success is None:
        return ["it is not complete: run the command that made it again"]
    return [
        f"{name} is {value}, and {SUCCESS} says {success.get(name)}"
        for name, value in found.items()
        if success.get(name) != value
    ]
