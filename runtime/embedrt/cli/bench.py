"""``embedrt bench``: measure the speed and the memory use of a bundle on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from embedrt.cli.bundles import add_bundle

if TYPE_CHECKING:
    from embedrt.bench.measure import Findings


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "bench", help="measure a bundle on this machine", description=__doc__
    )
    add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, in seconds and bytes")
    parser.add_argument("--quick", action="store_true", help="fewer calls: faster and less exact")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure the bundle and print a table or JSON."""
    # Imported here because no other command needs it.
    from embedrt.bench.measure import QUICK, Plan, measure  # noqa: PLC0415

    findings = measure(
        options.bundle, QUICK if options.quick else Plan(), progress=sys.stderr.isatty()
    )
    if options.json:
        print(json.dumps(findings.to_json(), indent=2))
    else:
        print("\n".join(table(findings)))


def table(findings: Findings) -> Iterator[str]:
    """Yield the lines of the table."""
    versions = ", ".join(f"{name} {version}" for name, version in findings.versions.items())
    yield f"{findings.name}, {findings.precision}"
    yield f"on {findings.processor}, {_counted(findings.threads, 'thread')}; {versions}"
    yield ""
    yield f"{'one text of':<18}{'p50':>11}{'p95':>11}{'p99':>11}"
    for latency in findings.latency:
        cells = "".join(f"{s * 1e3:>8.2f} ms" for s in (latency.p50, latency.p95, latency.p99))
        yield f"{latency.tokens:>6} tokens     {cells}"
    yield ""
    first = findings.throughput[0]
    yield f"{first.texts} texts of {first.tokens / first.texts:.0f} tokens on average"
    for throughput in findings.throughput:
        yield (
            f"{_counted(throughput.threads, 'thread'):>13}     "
            f"{throughput.texts_per_second:>10,.0f} texts/s"
            f"{throughput.tokens_per_second:>12,.0f} tokens/s"
        )
    yield ""
    startup = findings.startup
    yield f"{'start to first vector':<24}{startup.total:>8.3f} s"
    for name, seconds in (
        ("python", startup.python),
        ("import embedrt", startup.importing),
        ("load the bundle", startup.loading),
        ("first vector", startup.first_vector),
    ):
        yield f"  {name:<22}{seconds:>8.3f} s"
    yield ""
    memory = findings.memory
    yield "memory of a process"
    for name, size in (
        ("after import", memory.after_import),
        ("after load", memory.after_load),
        (f"after {findings.texts_in_memory:,} texts", memory.after_texts),
        ("peak", memory.peak),
    ):
        shown = "not reported by this system" if size is None else f"{size / 1e6:>8.1f} MB"
        yield f"  {name:<22}{shown}"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
