"""Checks that memory stays constant: ``python -m benchmarks.soak BUNDLE [--texts N]``.

One process embeds texts of all lengths, most of them short and some beyond the bundle's maximum,
and records its resident memory after each block of 1,000. The first texts of a block are embedded
one per call, as in a service, the others in one call. At the end the memory must be within 10 % of
that after the first block, otherwise the exit status is 1. ``--record FOLDER`` writes a table and a
chart.
"""

from __future__ import annotations

import argparse
import platform
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path

from embedrt import Embedder, Manifest
from embedrt.bench.measure import PASSAGE
from embedrt.bench.memory import peak_bytes, resident_bytes
from embedrt.engine.cpu import available_threads

BLOCK = 1000
SINGLE = 50  # texts of a block that are embedded one per call
ALLOWED = 0.10
TAIL = 0.7  # of the Pareto distribution of lengths: two texts in a hundred reach the maximum
BEYOND = 1.2  # length of the longest text, as a multiple of the maximum
ROWS = 20  # of the table; the chart has all points


@dataclass(frozen=True, slots=True)
class Point:
    """The state of the process after a number of texts."""

    texts: int
    seconds: float
    megabytes: float
    """The resident memory."""

    def __str__(self) -> str:
        """Format as a row of the table."""
        return f"| {self.texts:,} | {self.seconds:.0f} | {self.megabytes:.1f} MB |"


@dataclass(frozen=True, slots=True)
class Soak:
    """The memory of a process over many texts."""

    manifest: Manifest
    points: tuple[Point, ...]
    """One for each block of texts."""
    peak_megabytes: float
    """The peak memory of the process."""

    @property
    def growth(self) -> float:
        """The memory at the end relative to that after the first block, minus 1."""
        return self.points[-1].megabytes / self.points[0].megabytes - 1

    @property
    def verdict(self) -> str:
        """The growth in one sentence."""
        first, last = self.points[0], self.points[-1]
        where = "within" if abs(self.growth) <= ALLOWED else "beyond"
        return (
            f"{last.megabytes:.1f} MB after {last.texts:,} texts, {first.megabytes:.1f} MB after "
            f"the first {first.texts:,}: {self.growth:+.1%}, {where} {ALLOWED:.0%}; "
            f"peak {self.peak_megabytes:.1f} MB"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one bundle; return 0 if its memory stays constant, otherwise 1."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--texts", type=int, default=100_000, metavar="N")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="write a table and a chart")
    options = parser.parse_intermixed_args(arguments)
    if options.texts < 2 * BLOCK:
        parser.error(f"--texts {options.texts}: expected at least {2 * BLOCK}, which is two blocks")
    soak = run(options.bundle, options.texts)
    print(soak.verdict)
    if options.record is not None:
        record(soak, options.record)
    return int(abs(soak.growth) > ALLOWED)


def run(bundle: Path, count: int) -> Soak:
    """Embed `count` texts in blocks, and print a line for each block."""
    points = []
    with Embedder.load(bundle) as embedder:
        texts = texts_of_all_lengths(embedder.max_tokens)
        start = time.perf_counter()
        for done in range(BLOCK, count + 1, BLOCK):
            block = list(islice(texts, BLOCK))
            for text in block[:SINGLE]:
                embedder.encode(text)
            embedder.encode(block[SINGLE:])
            seconds = time.perf_counter() - start
            points.append(Point(done, seconds, _megabytes(resident_bytes())))
            print(points[-1], flush=True)
        return Soak(embedder.manifest, tuple(points), _megabytes(peak_bytes()))


def texts_of_all_lengths(max_tokens: int, seed: int = 0) -> Iterator[str]:
    """Yield texts of one word to more than `max_tokens`, most of them short, without end."""
    generator = random.Random(seed)  # noqa: S311 - not for cryptography
    longest = int(BEYOND * max_tokens)
    while True:
        words = min(longest, int(generator.paretovariate(TAIL)))
        yield " ".join(generator.choices(PASSAGE, k=words))


def record(soak: Soak, folder: Path) -> None:
    """Write ``soak-PRECISION.md``, and the chart that it shows, to `folder`."""
    # Imported here because at the top they would count toward the measured memory.
    import matplotlib as mpl  # noqa: PLC0415

    from benchmarks.chart_style import RC, looks, memory_chart  # noqa: PLC0415

    model, precision = soak.manifest.name, soak.manifest.precision
    contender = f"embedrt {precision}"
    styles = looks([contender])
    points = [(float(point.texts), point.megabytes) for point in soak.points]
    low, high = points[0][1] * (1 - ALLOWED), points[0][1] * (1 + ALLOWED)
    title = f"Memory while texts of all lengths are embedded, {model}"
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        figure, axes = memory_chart(title, {contender: points}, styles)
        axes.axhspan(low, high, color=styles[contender].color, alpha=0.12, lw=0)
        figure.savefig(folder / f"soak-{precision}.svg", format="svg", metadata={"Date": None})
    step = max(1, len(soak.points) // ROWS)
    shown = dict.fromkeys([soak.points[0], *soak.points[step - 1 :: step]])
    table = "\n".join(map(str, shown))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("onnxruntime", "numpy"))
    text = f"""\
# Memory over {soak.points[-1].texts:,} texts: {model}

Made by `python -m benchmarks.soak BUNDLE`; {available_threads()} threads, \
{platform.machine()}, Python {platform.python_version()}, {versions}.

{soak.verdict}.

![Resident memory as texts are embedded; the band is what is allowed](soak-{precision}.svg)

| texts | seconds | resident |
|---:|---:|---:|
{table}
"""
    (folder / f"soak-{precision}.md").write_text(text, encoding="utf-8")


def _megabytes(size: int | None) -> float:
    if size is None:
        raise OSError("memory cannot be read: /proc/self/status is missing; run the soak on Linux")
    return size / 1e6
