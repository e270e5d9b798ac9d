"""Run the benchmarks: ``python -m benchmarks.run ROWS.jsonl [--quick]``. See README.md."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.catalog import HERE, Contender, contenders
from benchmarks.checkout import commit, describe_machine
from benchmarks.environments import HARNESS, interpreter, versions
from benchmarks.failure import ContenderError
from benchmarks.measure import BYTES, UNITS, Bench, Result, measure, size_of_work
from benchmarks.plan import (
    MAIN_MODEL,
    QUICK_CONTENDERS,
    Workload,
    full_plan,
    quick_plan,
)
from benchmarks.pool import Pool
from benchmarks.process import Process
from benchmarks.rows import Row, append_rows, read_rows
from benchmarks.texts import Texts
from benchmarks.workshop import Workshop

REFERENCE = "sentence-transformers fp32"
CHECKED = ("each", "spaced", "call", "concurrent", "cosine")
TERMINATED = 128 + signal.SIGTERM
MAX_TOKENS = {MAIN_MODEL: 256, "all-mpnet-base-v2": 384, "multi-qa-distilbert-cos-v1": 512}


@dataclass(frozen=True)
class Run:
    """What is measured of each model, and where it is kept."""

    contenders: Mapping[str, Contender]
    output: Path
    """Rows are added to it."""
    reference: Contender
    """Embeds in fp32, where we run, what the others are checked against."""
    timeout: float
    """Seconds that a contender may take to load or to answer."""
    folder: Path = HERE / ".models"
    """What was prepared of each model."""
    beir: Path | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet."""
    known = contenders()
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("output", type=Path, metavar="ROWS.jsonl", help="rows are added to it")
    parser.add_argument("--quick", action="store_true", help="fewer of everything: minutes")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", choices=known)
    parser.add_argument("--models", nargs="+", choices=MAX_TOKENS, default=list(MAX_TOKENS))
    parser.add_argument("--workloads", nargs="+", metavar="ID", help="these and those below them")
    parser.add_argument("--beir", type=Path, metavar="FOLDER", help="a retrieval task to score")
    parser.add_argument(
        "--timeout", type=float, default=900, metavar="S", help="what a contender may take at once"
    )
    options = parser.parse_intermixed_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # and so end the workers
    names = options.contenders or (QUICK_CONTENDERS if options.quick else tuple(known))
    run = Run(
        {name: known[name] for name in names},
        options.output,
        known[REFERENCE],
        options.timeout,
        beir=options.beir,
    )
    make_plan = quick_plan if options.quick else full_plan
    for model in options.models:
        plan = make_plan(model, beir=options.beir is not None)
        wanted = options.workloads or [workload.id for workload in plan]
        run_model(run, model, [workload for workload in plan if _is_among(workload.id, wanted)])


def run_model(run: Run, model: str, workloads: Sequence[Workload]) -> None:
    """Measure one model, workload by workload; each one's rows are kept once it is done."""
    if not workloads:
        return
    workshop = Workshop(model, run.folder)
    texts = Texts(workshop.folder / "texts", workshop.artifact("source"), MAX_TOKENS[model])
    with (
        tempfile.TemporaryDirectory() as scratch,
        Pool(
            run.contenders,
            workshop,
            max_tokens=MAX_TOKENS[model],
            threads=describe_machine().cores,
            timeout=run.timeout,
        ) as pool,
    ):
        pool.prepare()
        bench = Bench(pool, texts, Path(scratch), run.beir)
        for number, workload in enumerate(workloads, 1):
            place = f"[{number}/{len(workloads)}] {model} {workload.id}"
            blanks = {
                name: _blank(contender, model, workload)
                for name, contender in run.contenders.items()
            }
            if _is_done(read_rows(run.output), blanks.values()):
                _tell(f"{place}: done before")
                continue
            _tell(place)
            _make_reference(run, workload, workshop, texts)
            start = time.monotonic()
            results = measure(bench, workload, list(run.contenders))
            rows = _rows(blanks, results, *size_of_work(bench, workload))
            append_rows(run.output, list(rows))
            _tell(f"{place}: {time.monotonic() - start:.0f} s")
            for name, result in results.items():
                if result.error:
                    _tell(f"  {name} {result.error}")


def _blank(contender: Contender, model: str, workload: Workload) -> Row:
    """The row of this contender at this workload, without what will be measured."""
    try:
        found = versions(contender.environment)
    except ContenderError:
        found = {}
    return Row(
        contender.name,
        model,
        workload.id,
        measure="",
        unit="",
        values=(),
        texts=0,
        tokens=0,
        machine=describe_machine(),
        versions=found,
        commit=commit(),
    )


def _is_done(rows: Sequence[Row], blanks: Iterable[Row]) -> bool:
    """Whether all of these were measured on this machine, with these versions, at this commit."""
    done = {_circumstances(row) for row in rows}
    return all(_circumstances(blank) in done for blank in blanks)


def _circumstances(row: Row) -> tuple[object, ...]:
    versions_found = tuple(sorted(row.versions.items()))
    return row.contender, row.model, row.workload, row.machine, versions_found, row.commit


def _rows(
    blanks: Mapping[str, Row], results: Mapping[str, Result], texts: int, tokens: int
) -> Iterator[Row]:
    for name, result in results.items():
        row = replace(blanks[name], texts=texts, tokens=tokens)
        if result.error:
            yield replace(row, error=result.error)
        for measure_name, values in result.values.items():
            unit = UNITS.get(measure_name, BYTES)
            yield replace(row, measure=measure_name, unit=unit, values=values)


def _make_reference(run: Run, workload: Workload, workshop: Workshop, texts: Texts) -> None:
    """Have the reference embed the workload's texts, where they are checked; kept for next time."""
    if workload.kind not in CHECKED:
        return
    file = texts.file(workload.texts)
    if file.with_suffix(".npy").is_file():
        return
    source = str(workshop.artifact("source"))
    job = {
        "file": str(run.reference.file),
        "name": run.reference.name,
        "folders": [source, source],
        "max_tokens": MAX_TOKENS[workshop.model],
        "purpose": "throughput",
        "threads": describe_machine().cores,
    }
    with Process(interpreter(HARNESS), job, timeout=run.timeout) as process:
        part = file.with_suffix(".part.npy")
        process.ask("vectors", timeout=run.timeout, texts=str(file), output=str(part))
        part.rename(file.with_suffix(".npy"))


def _is_among(workload: str, wanted: Sequence[str]) -> bool:
    return any(workload == one or workload.startswith(f"{one}/") for one in wanted)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
