"""``embedrt upgrade``: rewrite a bundle of an older format version to the current one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from embedrt.cli.bundles import add_bundle
from embedrt.upgrade import upgrade_bundle


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "upgrade", help="rewrite a bundle of an older format", description=__doc__
    )
    add_bundle(parser)
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="the new bundle's folder")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Rewrite the bundle and print the path of the new one."""
    upgrade_bundle(options.bundle, options.output)
    print(options.output)
