"""The argument BUNDLE of the commands."""

from __future__ import annotations

import argparse

BUNDLE_HELP = "the bundle's folder, or hub:org/name@COMMIT"


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the argument BUNDLE, which stays a str, because only a str can name a hub."""
    parser.add_argument("bundle", metavar="BUNDLE", help=BUNDLE_HELP)
