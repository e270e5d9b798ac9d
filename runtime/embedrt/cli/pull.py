"""``embedrt pull``: download a bundle from a model hub, and verify it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from embedrt.cli.log import shown_log


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("pull", help="download a bundle from a hub", description=__doc__)
    parser.add_argument("repository", metavar="ORG/NAME", help="the repository, or ORG/NAME@COMMIT")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit (main)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="the bundle's folder (in the hub's cache)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the bundle's name with its commit, and its folder."""
    # Imported here because no other command needs it.
    from embedrt.hub.pull import pull  # noqa: PLC0415

    with shown_log("embedrt.hub"):
        pulled = pull(options.repository, revision=options.revision, output=options.output)
    print(pulled.place)
    print(pulled.folder)
