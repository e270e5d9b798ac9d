"""``embedrt push``: upload a bundle to a model hub."""

from __future__ import annotations

import argparse
from typing import Any

from embedrt.cli.bundles import add_bundle


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("push", help="upload a bundle to a hub", description=__doc__)
    add_bundle(parser)
    parser.add_argument("repository", metavar="ORG/NAME", help="the repository, created if missing")
    parser.add_argument("--private", action="store_true", help="create a new repository as private")
    parser.add_argument("--revision", metavar="BRANCH", help="the branch (main)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Push the bundle; print the name with the commit that loads it."""
    # Imported here because no other command needs it.
    from embedrt.hub.push import push  # noqa: PLC0415

    print(
        push(options.bundle, options.repository, private=options.private, revision=options.revision)
    )
