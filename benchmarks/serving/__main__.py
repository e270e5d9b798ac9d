"""``python -m benchmarks.serving BUNDLE``: measure the server, and print a table."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import MAIN_MODEL
from benchmarks.checkout import FOLDER, commit
from benchmarks.harness.artifacts import Artifacts
from benchmarks.harness.texts import sentences
from benchmarks.machine.describe import describe_machine
from benchmarks.serving import measures, servers
from benchmarks.serving.measures import Finding
from embedrt import Embedder

MEASURES = (
    "throughput",
    "latency",
    "costs",
    "contenders",
    "overload",
    "repeated",
    "start",
    "minutes",
)
SHORTEST_TEXT = 16  # characters


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements that the arguments select."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument(
        "--contenders", nargs="*", choices=("infinity", "fastapi"), default=["infinity", "fastapi"]
    )
    parser.add_argument("--seconds", type=float, default=10, help="of a run under full load")
    parser.add_argument("--overload", type=float, default=60, help="seconds of overload")
    parser.add_argument("--soak", type=float, default=600, help="seconds of mixed load")
    options = parser.parse_args(arguments)
    machine = describe_machine()
    print(f"{machine.processor}, {machine.cores} cores; commit {commit()}\n", flush=True)
    print("| measure | found | target |\n| :-- | :-- | :-- |", flush=True)
    for finding in findings(options):
        print(f"| {finding.what} | {finding.found} | {finding.target} |", flush=True)
    return 0


def findings(options: argparse.Namespace) -> Iterator[Finding]:
    """Yield the rows of the table."""
    texts = [text for text in sentences() if len(text) >= SHORTEST_TEXT]
    random.Random(0).shuffle(texts)  # noqa: S311 - not for cryptography
    bundle, chosen = options.bundle.absolute(), options.measures
    with Embedder.load(bundle) as embedder:
        embedder.encode(texts[:500])
        if "throughput" in chosen:
            yield from measures.throughput(bundle, embedder, texts, options.seconds)
        if "latency" in chosen:
            yield from measures.latency(bundle, embedder, texts)
        if "costs" in chosen:
            yield from measures.costs(bundle, embedder, texts, options.seconds)
        threads = embedder.options.threads or 1
    if "contenders" in chosen and options.contenders:
        model = Artifacts(MAIN_MODEL, FOLDER / ".models").artifact("source")
        others = [getattr(servers, name)(model, threads) for name in options.contenders]
        yield from measures.contenders(bundle, others, texts, options.seconds)
    if "overload" in chosen:
        yield from measures.overload(bundle, texts, options.overload)
    if "repeated" in chosen:
        yield from measures.repeated(bundle, texts, options.seconds)
    if "start" in chosen:
        yield from measures.start(bundle)
    if "minutes" in chosen:
        yield from measures.minutes(bundle, texts, options.soak)


if __name__ == "__main__":
    sys.exit(main())
