"""``embedrt verify``: check every byte of a bundle, and its results on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from embedrt.bundle.reader import Bundle
from embedrt.cli.bundles import add_bundle
from embedrt.cli.export import load_exporter
from embedrt.tasks import load_any
from embedrt.verify import PROBES, check_probes, try_bundle


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("verify", help="check a bundle", description=__doc__)
    add_bundle(parser)
    parser.add_argument(
        "--against",
        metavar="MODEL",
        help="also compare with the original model in torch; MODEL as for export",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Check files, graph and vectors, first in a child process; raise the first error."""
    bundle = Bundle.open(options.bundle, verify="sha256")
    print(f"files: {len(bundle.manifest.files)} as the manifest says, by sha256")
    try_bundle(bundle.path)
    with load_any(bundle) as loaded:
        difference = check_probes(loaded, bundle)
        results = PROBES[bundle.manifest.task].results
        print(f"{results} on this machine: largest difference {difference:.1e} from the original's")
        if options.against:
            agreement = load_exporter().prove_bundle(loaded, options.against)
            print(
                f"against {agreement.reference} on {agreement.texts} texts: largest difference "
                f"{agreement.max_difference:.1e}, smallest cosine {agreement.min_cosine:.7f}, "
                "same bytes alone and in batches"
            )
