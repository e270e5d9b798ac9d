"""``embedrt corpus verify``: verify that an output of `embedrt embed` is complete and unchanged."""

from __future__ import annotations

import argparse
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("corpus", help="verify embedded files", description=__doc__)
    parser.add_argument("action", metavar="verify", help="the only action")
    parser.add_argument(
        "output", metavar="OUTPUT", help="the output folder or URI of embedrt embed"
    )
    parser.add_argument("--source", metavar="SOURCE", help="also compare with the source files")
    parser.add_argument("--bundle", metavar="BUNDLE", help="the bundle, if it has moved")
    parser.add_argument(
        "--sample", type=int, default=100, metavar="N", help="number of rows to recompute (100)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Verify an output and print the result."""
    # Imported here because it needs packages of an extra.
    from embedrt import corpus  # noqa: PLC0415

    if options.action != "verify":
        raise ValueError(f"{options.action}: expected embedrt corpus verify OUTPUT")
    found = corpus.verify_output(
        options.output, source=options.source, bundle=options.bundle, sample=options.sample
    )
    print(f"rows: {found.rows:,} in {found.parts:,} parts, {found.nulls:,} without a text")
    print(f"digest: {found.digest}, as recorded")
    if found.against_source:
        print("source: unchanged since it was embedded")
    again = found.again
    if again.rows > again.tolerant:
        print(f"recomputed: {again.rows - again.tolerant:,} rows, the same bytes")
    if again.tolerant:
        print(
            f"recomputed: {again.tolerant:,} rows, equal within {again.tolerance:g}, because they "
            f"were computed by {', '.join(again.others)} and now by {again.here}"
        )
    if not again.rows and options.sample and found.rows:
        print("recomputed: none, because the output does not contain the texts; pass --source")
