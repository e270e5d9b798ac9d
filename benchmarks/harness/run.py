"""A run: measures every workload of a model that has no rows yet."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.checkout import ROOT, commit
from benchmarks.harness.artifacts import MODELS, Artifacts
from benchmarks.harness.catalog import ContenderError, Entry
from benchmarks.harness.environments import HARNESS, installed
from benchmarks.harness.measuring import BYTES, KINDS, UNITS, Bench, Turns, measure
from benchmarks.harness.plan import Workload
from benchmarks.harness.processes import Pool
from benchmarks.harness.retrieval import read_retrieval
from benchmarks.harness.rows import Row, append_rows, read_rows
from benchmarks.harness.texts import Texts
from benchmarks.machine.describe import describe_machine
from benchmarks.models import MAX_TOKENS

NO_FIGURES: dict[str, Any] = {
    **dict.fromkeys(("measure", "unit", "error"), ""),
    **dict.fromkeys(("texts", "tokens"), 0),
    "values": (),
}
log = partial(print, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Run:
    """Which contenders are measured, and where the results go."""

    contenders: Mapping[str, Entry]
    output: Path
    """File that rows are appended to."""
    reference: Entry
    """The fp32 contender, in the harness's environment, with which the others are compared."""
    timeout: float
    """Seconds that a contender may take to load or to answer."""
    folder: Path = MODELS
    """Folder of the artifacts of all models."""
    beir: Path | None = None
    """Folder of a retrieval task."""


def run_model(run: Run, model: str, workloads: Sequence[Workload]) -> None:
    """Measure one model. Appends the rows of a workload when all contenders have done it."""
    if not workloads:
        return
    artifacts = Artifacts(model, run.folder)
    texts = Texts(artifacts.folder / "texts", artifacts.artifact("source"), MAX_TOKENS[model])
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(Pool(run.contenders, artifacts, timeout=run.timeout)) as pool,
    ):
        pool.prepare()
        retrieval = read_retrieval(run.beir) if run.beir else None
        bench = Bench(pool, texts, Path(scratch), retrieval)
        for number, workload in enumerate(workloads, 1):
            place = f"[{number}/{len(workloads)}] {model} {workload.id}"
            blanks = {one.name: _blank(one, model, workload) for one in run.contenders.values()}
            if _is_done(read_rows(run.output), blanks.values()):
                log(f"{place}: already measured")
                continue
            log(place)
            kind = KINDS[workload.kind]
            if kind.compared:
                _make_reference(run, artifacts, texts.file(workload.texts))
            start = time.monotonic()
            turns = measure(bench, workload, list(run.contenders))
            count = sum(len(texts.read(key)) for key in workload.keys)
            tokens = sum(map(texts.tokens, workload.keys))
            append_rows(run.output, list(_rows(blanks, turns, count, tokens)))
            log(f"{place}: {time.monotonic() - start:.0f} s")
            for name, error in turns.failures.items():
                log(f"  {name} {error}")


def _blank(contender: Entry, model: str, workload: Workload) -> Row:
    """Return the row of a contender at a workload, without figures."""
    try:
        versions = installed(contender.environment).versions
    except ContenderError:
        versions = {}
    row = partial(Row, contender.name, model, workload.id, **NO_FIGURES)
    return row(machine=describe_machine(), versions=versions, commit=commit())


def _is_done(rows: Sequence[Row], blanks: Iterable[Row]) -> bool:
    """Whether all of these were measured on this machine, with these versions, at this commit."""
    done = [replace(row, **NO_FIGURES) for row in rows]
    return all(blank in done for blank in blanks)


def _rows(blanks: Mapping[str, Row], turns: Turns, texts: int, tokens: int) -> Iterator[Row]:
    """Yield a row for each measure of a contender, or one with the reason of its failure."""
    for name, blank in blanks.items():
        row = replace(blank, texts=texts, tokens=tokens)
        if name in turns.failures:
            # Rows are published, so they must not contain the path of the checkout.
            yield replace(row, error=turns.failures[name].replace(f"{ROOT}{os.sep}", ""))
            continue
        gathered: defaultdict[str, list[float]] = defaultdict(list)
        for answer in turns.answers[name]:
            for measured, value in answer.items():
                gathered[measured] += value if isinstance(value, list) else [value]
        for measured, values in gathered.items():
            unit = UNITS.get(measured, BYTES)
            yield replace(row, measure=measured, unit=unit, values=tuple(values))


def _make_reference(run: Run, artifacts: Artifacts, texts: Path) -> None:
    """Embed these texts with the reference, unless saved vectors exist; save the vectors."""
    vectors = texts.with_suffix(".npy")
    if vectors.is_file():
        return
    name, part = run.reference.name, texts.with_suffix(".part.npy")
    reference = {name: replace(run.reference, environment=HARNESS)}
    with closing(Pool(reference, artifacts, timeout=run.timeout)) as pool:
        pool.ask(name, "vectors", texts=str(texts), output=str(part))
    part.rename(vectors)
