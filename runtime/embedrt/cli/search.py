"""``embedrt search``: rank the lines of a file by a query."""

from __future__ import annotations

import argparse
from typing import Any

from embedrt.cli.bundles import add_bundle
from embedrt.cli.lines import add_input_options, read_texts
from embedrt.embedder import Embedder
from embedrt.text.inputs import as_batch


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("search", help="rank texts by a query", description=__doc__)
    add_bundle(parser)
    parser.add_argument("--query", required=True, metavar="TEXT", help="what to look for")
    add_input_options(parser)
    parser.add_argument("--top-k", type=int, default=10, metavar="N", help="results to show (10)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the score and text of the best documents, best first."""
    documents = as_batch(read_texts(options.file, options.field))
    with Embedder.load(options.bundle) as embedder:
        (hits,) = embedder.semantic_search(
            embedder.encode_query([options.query]),
            embedder.encode_document(documents),
            top_k=options.top_k,
        )
    for hit in hits:
        print(f"{hit.score:.4f}\t{documents[hit.index]}")
