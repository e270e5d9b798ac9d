"""``embedrt rerank``: rank the lines of a file by a cross-encoder's scores for a query."""

from __future__ import annotations

import argparse
from typing import Any

from embedrt.cli.bundles import add_bundle
from embedrt.cli.lines import add_input_options, read_texts
from embedrt.reranker import Reranker


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("rerank", help="rank texts by a reranker", description=__doc__)
    add_bundle(parser)
    parser.add_argument("--query", required=True, metavar="TEXT", help="what to look for")
    add_input_options(parser)
    parser.add_argument("--top-k", type=int, default=10, metavar="N", help="results to show (10)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the score and text of the best documents, best first."""
    if options.top_k < 1:
        raise ValueError(f"--top-k {options.top_k}; expected at least 1")
    with Reranker.load(options.bundle) as reranker:
        ranked = reranker.rank(
            options.query,
            read_texts(options.file, options.field),
            top_k=options.top_k,
            return_documents=True,
        )
    for one in ranked:
        print(f"{one['score']:.4f}\t{one['text']}")
