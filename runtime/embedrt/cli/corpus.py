"""``embedrt corpus verify``: prove that an output of `embedrt embed` lacks and doubles nothing."""

from __future__ import annotations

import argparse
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("corpus", help="verify embedded files", description=__doc__)
    parser.add_argument("action", metavar="verify", help="the only action there is")
    parser.add_argument("output", metavar="OUTPUT", help="the folder or URI that embed has made")
    parser.add_argument("--source", metavar="SOURCE", help="also compare with the source's files")
    parser.add_argument("--bundle", metavar="BUNDLE", help="the bundle, if it was moved since")
    parser.add_argument(
        "--sample", type=int, default=100, metavar="N", help="rows to compute again (100)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Verify an output; print what was compared."""
    # Imported here because it needs packages of an extra.
    from embedrt import corpus  # noqa: PLC0415

    if options.action != "verify":
        raise ValueError(f"{options.action}: expected embedrt corpus verify OUTPUT")
    found = corpus.verify_output(
        options.output, source=options.source, bundle=options.bundle, sample=options.sample
    )
    print(f"rows: {found.rows:,} in {found.parts:,} parts, {found.nulls:,} without a text")
    print(f"digest: {found.digest}, as it says")
    if found.against_source:
        print("source: its files are those that were embedded")
    again = found.again
    if again.rows > again.tolerant:
        print(f"computed again: {again.rows - again.tolerant:,} rows, the same bytes")
    if again.tolerant:
        print(
            f"computed again: {again.tolerant:,} rows to {again.tolerance:g}, not to the byte: by "
            f"{', '.join(again.others)} before, by {again.here} now"
        )
    if not again.rows and options.sample and found.rows:
        print("computed again: none, because the texts are not in the output; pass --source")
