"""``embedrt compare``: compare a bundle with its original on your texts. Needs embedrt[export]."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from embedrt.cli.bundles import add_bundle
from embedrt.cli.export import load_exporter
from embedrt.cli.lines import read_texts


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "compare", help="compare a bundle with the original on your texts", description=__doc__
    )
    parser.add_argument("model", metavar="MODEL", help="the original, as for export")
    add_bundle(parser)
    parser.add_argument("file", metavar="FILE", help="texts in UTF-8, one per line; - is stdin")
    parser.add_argument("--field", help="read FILE as JSON lines and take this field")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page with plots")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print cosines, agreement of neighbors and speed, and the texts that change most."""
    load_exporter()
    migration = import_module("embedrt_export.migration.measure").compare(
        options.model, options.bundle, list(read_texts(options.file, options.field))
    )
    rows = migration.rows()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    print("\nthe texts that change most")
    for cosine, text in migration.worst:
        print(f"{cosine:.6f}  {text}")
    if options.html:
        page = import_module("embedrt_export.migration.page").page(migration)
        options.html.write_text(page, encoding="utf-8")
