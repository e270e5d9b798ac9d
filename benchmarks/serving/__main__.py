"""``python -m benchmarks.serving BUNDLE``: measure the server, and print a table."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from benchmarks.checkout import commit
from benchmarks.harness.texts import sentences
from benchmarks.machine.describe import describe_machine
from benchmarks.markdown import head, row
from benchmarks.serving.measures import MEASURES, Bench
from benchmarks.serving.servers import OTHERS
from embedrt import Embedder

SHORTEST_TEXT = 16  # characters


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements that the arguments select."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--contenders", nargs="*", choices=OTHERS, default=list(OTHERS))
    parser.add_argument("--seconds", type=float, default=10, help="of a run under full load")
    parser.add_argument("--overload", type=float, default=60, help="seconds of overload")
    parser.add_argument("--soak", type=float, default=600, help="seconds of mixed load")
    options = parser.parse_args(arguments)
    machine = describe_machine()
    print(f"{machine.processor}, {machine.cores} cores; commit {commit()}\n", flush=True)
    print(head("measure", "found", "target", figures=False), flush=True)
    texts = [text for text in sentences() if len(text) >= SHORTEST_TEXT]
    random.Random(0).shuffle(texts)  # noqa: S311 - not for cryptography
    bundle = options.bundle.absolute()
    with Embedder.load(bundle) as embedder:
        embedder.encode(texts[:500])
        bench = Bench(bundle, embedder, texts, options)
        for name in options.measures:
            for cells in MEASURES[name](bench):
                print(row(*cells), flush=True)


if __name__ == "__main__":
    main()
