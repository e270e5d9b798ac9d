"""The state of an output folder: the job that it belongs to, and the parts that it holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from embedrt.corpus.merge import Merged, holder_of, merge_parts, merged_of, read_merged
from embedrt.corpus.output import (
    SETTINGS,
    SUCCESS,
    list_names,
    read_facts,
    read_json,
    read_settings,
    remove,
    remove_temporary_files,
    visible,
    write_json,
)
from embedrt.corpus.places import Place
from embedrt.corpus.plan import Part, Plan, key_of
from embedrt.corpus.plan_file import differences, load_plan, save_plan
from embedrt.corpus.totals import Totals
from embedrt.corpus.work import Work, identify
from embedrt.errors import CorpusOutputError

READERS = 16  # footers read in parallel
READ_AT_ONCE = 1000  # results held in memory
FILE_BITS = 40  # bits of a part's key for the first row


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The parts that an output folder holds, according to the names of its files."""

    parts: frozenset[int]
    merged: tuple[Merged, ...]

    def __contains__(self, part: Part) -> bool:
        return _number(part.key) in self.parts or holder_of(self.merged, part.key) is not None


def open_output(
    output: Place, settings: dict[str, Any], plan: Plan, details: dict[str, Any]
) -> str:
    """Create the output folder, or check that it belongs to this job; return the job's identity.

    Raises CorpusOutputError if the folder belongs to another job, with the differences, or holds
    other files.
    """
    stored = read_settings(output)
    if stored is None:
        others = list(visible(list_names(output)))
        if others:
            raise CorpusOutputError(
                f"{output.given} is not empty and not an output of embedrt: it holds {others[0]}; "
                "choose an empty or a new folder"
            )
        output.filesystem.create_dir(output.path, recursive=True)
        identity = identify(settings)
        save_plan(output, plan)
        write_json(output, SETTINGS, {**settings, **details, "identity": identity})
        return identity
    before = load_plan(output)
    found = [
        f"{name}: {stored.get(name)!r} before, {value!r} now"
        for name, value in settings.items()
        if stored.get(name) != value and (name != "plan" or before is None)
    ]
    found += [] if before is None else differences(before, plan)
    if found:
        raise CorpusOutputError(
            f"{output.given} is the output of another job ({'; '.join(found)}); choose a new "
            "folder, or repeat the original command"
        )
    if stored["plan"] != settings["plan"]:  # a file that could not be read before
        save_plan(output, plan)
        write_json(output, SETTINGS, {**stored, **settings})
    return str(stored["identity"])


def present_in(names: list[str]) -> tuple[Present, list[str]]:
    """Return the parts named by files, and the files whose parts are also in a merged file."""
    merged = tuple(one for name in names if (one := merged_of(name)) is not None)
    parts, doubled = set(), []
    for name in names:
        if (key := key_of(name)) is None:
            continue
        if holder_of(merged, key) is not None:
            doubled.append(name)
        else:
            parts.add(_number(key))
    return Present(parts=frozenset(parts), merged=merged), doubled


def find_present(output: Place) -> Present:
    """Return the existing parts, and remove files that killed processes left behind."""
    remove_temporary_files(output)
    present, doubled = present_in(list_names(output))
    for name in doubled:  # a merge was killed before it removed its parts
        remove(output, name)
    return present


def facts_of(output: Place, present: Present, plan: Plan, identity: str) -> Totals:
    """Return the totals of the existing parts, from their footers.

    Raises CorpusOutputError if a part is damaged, or belongs to another job.
    """
    names = (part.name for part in plan.parts() if _number(part.key) in present.parts)
    totals = Totals()
    with ThreadPoolExecutor(READERS) as pool:
        while some := list(islice(names, READ_AT_ONCE)):
            for facts in pool.map(partial(read_facts, output), some):
                _check_identity(output, facts.name, facts.identity, identity)
                totals.add_part(facts)
        for merged in pool.map(partial(read_merged, output), present.merged):
            _check_identity(output, merged.name, merged.identity, identity)
            totals.add_merged(merged)
    return totals


def mark_incomplete(output: Place) -> None:
    """Remove the file that marks the output as complete."""
    remove(output, SUCCESS)


def mark_complete(work: Work, plan: Plan, present: Present, made: Totals) -> Totals:
    """Write the file that marks the output as complete; return the totals of the output.

    Raises CorpusOutputError if the parts do not add up to the rows of the source.
    """
    output = work.output
    stored = read_json(output, SUCCESS)
    if stored is not None and not made.parts:
        _check_identity(output, SUCCESS, str(stored.pop("identity", "")), work.identity)
        return Totals.from_json(stored)
    totals = facts_of(output, present, plan, work.identity)
    totals.add(made)
    if totals.rows != plan.rows:
        raise CorpusOutputError(
            f"{output.given} has {totals.rows} rows and its source {plan.rows}; a part was removed "
            "or added while it was written: run the same command again"
        )
    _write_success(work, totals)
    return totals


def merge(work: Work, plan: Plan, totals: Totals, *, megabytes: float) -> None:
    """Join the parts of a complete output into files of about this size."""
    output, embedding = work.output, work.embedding
    present = find_present(output)
    if not present.parts:  # all parts are merged already
        return
    mark_incomplete(output)
    # A merged file is named by its first and last part, so it must hold all parts between them.
    parts = ((part, _number(part.key) in present.parts) for part in plan.parts())
    for is_here, stretch in groupby(parts, key=itemgetter(1)):
        if is_here:
            merge_parts(
                output,
                map(itemgetter(0), stretch),
                megabytes=megabytes,
                column=embedding.output_column,
                text=embedding.text,
            )
    _write_success(work, totals)


def _write_success(work: Work, totals: Totals) -> None:
    remove_temporary_files(work.output)
    write_json(work.output, SUCCESS, {**totals.to_json(), "identity": work.identity})


def _check_identity(output: Place, name: str, found: str, expected: str) -> None:
    if found != expected:
        raise CorpusOutputError(
            f"{output.join(name)} was made by a run with other settings; remove it and run again"
        )


def _number(key: tuple[int, int]) -> int:
    return key[0] << FILE_BITS | key[1]
