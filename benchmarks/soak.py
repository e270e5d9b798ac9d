"""Checks that memory stays constant: ``python -m benchmarks.soak BUNDLE [--texts N]``.

One process embeds texts of many lengths, most of them short and some beyond the bundle's maximum,
and prints its resident memory after each block of 1,000. The first texts of a block are embedded
one per call, as in a service, the others in one call. Memory grows until the largest batches have
run and most words have occurred, because a word's row of the mapped weights stays resident. At the
end it must be within 5 % of that after a tenth of the texts, otherwise the exit status is 1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.texts import BLOCK, many_texts
from benchmarks.markdown import head, row
from embedrt import Embedder
from embedrt.bench.memory import peak_bytes, resident_bytes

SINGLE = 50  # texts of a block that are embedded one per call
ALLOWED = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one bundle; return 0 if its memory stays constant, otherwise 1."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--texts", type=int, default=100_000, metavar="N")
    options = parser.parse_intermixed_args(arguments)
    if options.texts < 2 * BLOCK:
        parser.error(f"--texts {options.texts}: expected at least {2 * BLOCK}, which is two blocks")
    print(head("texts", "seconds", "resident"))
    found = []
    with Embedder.load(options.bundle) as embedder:
        start = time.perf_counter()
        for number in range(options.texts // BLOCK):
            block = many_texts(BLOCK, seed=number)
            for text in block[:SINGLE]:
                embedder.encode(text)
            embedder.encode(block[SINGLE:])
            found.append(megabytes(resident_bytes()))
            done, seconds = BLOCK * (number + 1), time.perf_counter() - start
            print(row(f"{done:,}", f"{seconds:.0f}", f"{found[-1]:.1f} MB"), flush=True)
    tenth = max(1, len(found) // 10)
    before = found[tenth - 1]
    growth = found[-1] / before - 1
    constant = abs(growth) <= ALLOWED
    print(
        f"\n{found[-1]:.1f} MB after {done:,} texts, {before:.1f} MB after {tenth * BLOCK:,}: "
        f"{growth:+.1%}, {'within' if constant else 'beyond'} {ALLOWED:.0%}; "
        f"peak {megabytes(peak_bytes()):.1f} MB"
    )
    return 0 if constant else 1


def megabytes(size: int | None) -> float:
    """Return bytes in megabytes; raise OSError if there is no size."""
    if size is None:
        raise OSError("memory cannot be read: /proc/self/status is missing; run the soak on Linux")
    return size / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
