"""Run the benchmarks: ``python -m benchmarks.run ROWS.jsonl [--quick]``. See README.md."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import REFERENCE
from benchmarks.harness.catalog import contenders
from benchmarks.harness.plan import LONG_CONTENDERS, QUICK_CONTENDERS, full_plan, quick_plan
from benchmarks.harness.run import Run, run_model
from benchmarks.models import LONG_MODELS, MAX_TOKENS

TERMINATED = 128 + signal.SIGTERM


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the workloads that have no rows yet."""
    known = contenders()
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("output", type=Path, metavar="ROWS.jsonl", help="append rows to this file")
    parser.add_argument("--quick", action="store_true", help="a selection that takes minutes")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", choices=known)
    parser.add_argument("--models", nargs="+", choices=MAX_TOKENS, default=list(MAX_TOKENS))
    parser.add_argument(
        "--workloads",
        nargs="+",
        metavar="ID",
        help="such as latency/16, or latency for all of them",
    )
    parser.add_argument("--beir", type=Path, metavar="FOLDER", help="retrieval task to score")
    parser.add_argument("--timeout", type=float, default=900, metavar="S", help="for one answer")
    options = parser.parse_intermixed_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # which ends the workers
    names = options.contenders or (QUICK_CONTENDERS if options.quick else tuple(known))
    make_plan = quick_plan if options.quick else full_plan
    for model in options.models:
        plan = make_plan(model, beir=options.beir is not None)
        wanted = tuple(f"{name}/" for name in options.workloads or [one.id for one in plan])
        takers = LONG_CONTENDERS if model in LONG_MODELS else known
        run = Run(
            {name: known[name] for name in names if name in takers},
            options.output,
            known[REFERENCE],
            options.timeout,
            beir=options.beir,
        )
        run_model(run, model, [one for one in plan if f"{one.id}/".startswith(wanted)])


if __name__ == "__main__":
    main()
