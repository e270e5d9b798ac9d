"""``embedrt embed``: embed files of texts into a folder of Parquet. Needs embedrt[corpus].

SOURCE is a file, a folder, or a URI such as s3://bucket/folder, of Parquet, Arrow, JSON lines or
CSV. OUTPUT is a folder or URI. After an interruption, the same command continues the run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Any

from embedrt.cli.bundles import BUNDLE_HELP
from embedrt.cli.encode import add_embedding_options
from embedrt.cli.log import shown_log
from embedrt.cli.output import check_replaceable, replacing
from embedrt.errors import CorpusError
from embedrt.files import expand
from embedrt.signals import INTERRUPTED, ending_signals, handled

if TYPE_CHECKING:
    from embedrt.corpus import Engine, Report

AGAIN = "run the same command again to continue"
MINUTE_LINE = "%(asctime)s %(message)s"  # where there is no bar


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("embed", help="embed files into Parquet", description=__doc__)
    parser.add_argument("source", metavar="SOURCE", help="a file, folder or URI")
    parser.add_argument("output", metavar="OUTPUT", help="a folder or URI")
    parser.add_argument("--bundle", required=True, metavar="BUNDLE", help=BUNDLE_HELP)
    _add_column_options(parser)
    _add_run_options(parser)
    parser.set_defaults(run=run)


def _add_column_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--text",
        action="append",
        metavar="COLUMN",
        help="the text column (text); repeatable: several are joined in this order",
    )
    parser.add_argument(
        "--join", default="\n", metavar="TEXT", help="separator of text columns (a newline)"
    )
    parser.add_argument(
        "--columns",
        action="append",
        metavar="COLUMN",
        help="a source column to keep in the output; repeatable (all)",
    )
    parser.add_argument(
        "--output-column", default="embedding", metavar="COLUMN", help="the new column (embedding)"
    )
    parser.add_argument(
        "--overwrite-column", action="store_true", help="replace a source column of that name"
    )
    add_embedding_options(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rows-per-part",
        type=int,
        default=4000,
        metavar="N",
        help="rows of a part, the unit of resuming (4000)",
    )
    parser.add_argument(
        "--on-error",
        choices=("fail", "skip"),
        default="fail",
        help="skip: embed the rest, and list the files and texts that fail",
    )
    parser.add_argument(
        "--merge", type=float, metavar="N", help="join the parts into files of N megabytes"
    )
    parser.add_argument("--report", type=expand, metavar="FILE", help="write a JSON report")
    parser.add_argument("--threads", type=int, metavar="N", help="cores to use, for --engine local")
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="run in this process or on a Ray cluster (local)",
    )
    parser.add_argument("--address", help="a Ray cluster; by default one is started here")
    parser.add_argument("--workers", type=int, metavar="N", help="concurrent parts on Ray")
    parser.add_argument(
        "--cores-per-worker", type=int, metavar="N", help="cores of a part on Ray (1)"
    )


def run(options: argparse.Namespace) -> None:
    """Embed the source; print a summary, and how to continue if the output is incomplete."""
    # Imported here because it needs packages of an extra.
    from embedrt import corpus  # noqa: PLC0415

    engine = _engine(options)
    if options.report is not None:
        check_replaceable(options.report)
    with (
        ending_at_once(),
        stopping() as stop,
        nullcontext() if sys.stderr.isatty() else shown_log("embedrt.corpus", MINUTE_LINE),
        redirect_stdout(sys.stderr),  # Ray reports workers that died on stdout
    ):
        report = corpus.embed(
            options.source,
            options.output,
            bundle=options.bundle,
            text=options.text or ["text"],
            engine=engine,
            join=options.join,
            prompt_name=options.prompt_name,
            prompt=options.prompt,
            truncate_dim=options.truncate_dim,
            normalize=options.normalize,
            precision=options.precision,
            max_active_dims=options.max_active_dims,
            task=options.task,
            columns=options.columns,
            output_column=options.output_column,
            overwrite_column=options.overwrite_column,
            rows_per_part=options.rows_per_part,
            on_error=options.on_error,
            merge_mb=options.merge,
            show_progress_bar=sys.stderr.isatty(),
            stop=stop.event,
        )
    if options.report is not None:
        with replacing(options.report) as file:
            file.write((json.dumps(report.to_json(), indent=2) + "\n").encode())
    _print_report(report)
    if report.interrupted:
        sys.exit(128 + (stop.signal or signal.SIGINT))
    if not report.complete:
        raise CorpusError(f"{len(report.failures)} not embedded; {AGAIN}")


class Stop:
    """The signal that requests the end of the run, if one has arrived."""

    def __init__(self) -> None:
        self.event = Event()
        self.signal: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first one ends after the parts in flight, the second at once."""
        if self.event.is_set():
            raise KeyboardInterrupt
        self.signal = number
        self.event.set()
        # os.write instead of print, which a signal may interrupt.
        os.write(2, b"embedrt: finishing the parts in flight; interrupt again to end at once\n")


@contextmanager
def stopping() -> Iterator[Stop]:
    """Let Ctrl-C, SIGTERM and SIGHUP set an event."""
    stop = Stop()
    with handled(ending_signals(), stop):
        yield stop


@contextmanager
def ending_at_once() -> Iterator[None]:
    """End the process after a second interrupt, without waiting for the current part.

    Nothing is lost: all files written so far are complete.
    """
    try:
        yield
    except KeyboardInterrupt:
        os.write(2, f"embedrt: interrupted; {AGAIN}\n".encode())
        os._exit(INTERRUPTED)


def _engine(options: argparse.Namespace) -> Engine:
    from embedrt.corpus import LocalEngine  # noqa: PLC0415

    of_ray = {
        "--address": options.address,
        "--workers": options.workers,
        "--cores-per-worker": options.cores_per_worker,
    }
    if options.engine == "local":
        for name, value in of_ray.items():
            if value is not None:
                raise ValueError(f"{name} {value} requires --engine ray")
        return LocalEngine(threads=options.threads)
    if options.threads is not None:
        raise ValueError(
            f"--threads {options.threads} requires --engine local; with --engine ray, use "
            "--cores-per-worker"
        )
    from embedrt.corpus.on_ray import RayEngine  # noqa: PLC0415

    return RayEngine(
        address=options.address,
        workers=options.workers,
        cores_per_worker=1 if options.cores_per_worker is None else options.cores_per_worker,
    )


def _print_report(report: Report) -> None:
    for name in report.skipped:
        print(f"embedrt: skipped {name}, which is not a data file", file=sys.stderr)
    for reason in report.failures:
        print(f"embedrt: not embedded: {reason}", file=sys.stderr)
    rate = report.rows_run / report.seconds
    print(
        f"{report.rows_done:,} of {report.rows:,} rows in {report.output}, {report.rows_run:,} of "
        f"them now, {rate:,.0f} rows/s"
    )
    for kind, found in (("kind of processor", report.processors), ("engine", report.engines)):
        if len(found) > 1:
            print(
                f"embedrt: computed on {', '.join(found)}: vectors have the same bytes on the same "
                f"{kind}, and otherwise agree to rounding",
                file=sys.stderr,
            )
    if report.complete:
        print(f"nulls {report.nulls:,}, truncated {report.cut:,}, digest {report.digest}")
    else:
        print(f"embedrt: not complete; {AGAIN}", file=sys.stderr)
