"""Whether memory stays constant: ``python -m benchmarks.soak BUNDLE [--texts N]``.

One process embeds texts of all lengths, up to beyond the bundle's maximum and most of them short,
and records its resident memory after each block of 1,000. The first texts of a block come one in a
call, as in a service, the others in one call. At the end the memory must be within 10 % of what it
was after the first block, or the exit status is 1. ``--record FOLDER`` writes a table and a chart.
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
SINGLE = 50  # texts of a block that come one in a call
ALLOWED = 0.10
TAIL = 0.7  # of the Pareto distribution of lengths: two texts in a hundred reach the maximum
BEYOND = 1.2  # length of the longest text, in maximums
SEED = 0
ROWS = 20  # of the table; the chart has all points


@dataclass(frozen=True, slots=True)
class Point:
    """The state of the process after so many texts."""

    texts: int
    seconds: float
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Soak:
    """The memory of a process over many texts."""

    manifest: Manifest
    points: tuple[Point, ...]
    """One for each block of texts."""
    peak_bytes: int
    """The most that the process held at any time."""

    @property
    def growth(self) -> float:
        """Difference between the end and the first block, as a share of the latter."""
        return self.points[-1].resident_bytes / self.points[0].resident_bytes - 1

    @property
    def flat(self) -> bool:
        """Whether the growth is within the allowed range."""
        return abs(self.growth) <= ALLOWED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one bundle; return 0 if its memory stays constant, 1 if not."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--texts", type=int, default=100_000, metavar="N")
    parser.add_argument(
        "--record", type=Path, metavar="FOLDER", help="write soak-PRECISION.md and .svg"
    )
    options = parser.parse_args(arguments)
    if options.texts < 2 * BLOCK:
        parser.error(f"--texts {options.texts}: expected at least {2 * BLOCK}, which is two blocks")
    soak = run(options.bundle, options.texts)
    print(verdict(soak))
    if options.record is not None:
        record(soak, options.record)
    return 0 if soak.flat else 1


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
            points.append(Point(done, time.perf_counter() - start, _known(resident_bytes())))
            print(_row(points[-1]), flush=True)
        return Soak(embedder.manifest, tuple(points), _known(peak_bytes()))


def texts_of_all_lengths(max_tokens: int, seed: int = SEED) -> Iterator[str]:
    """Yield texts of one word to more than `max_tokens`, without end; a seed repeats its texts.

    The lengths follow a Pareto distribution, so that most texts are short.
    """
    generator = random.Random(seed)  # noqa: S311 - chance, not secrets
    longest = int(BEYOND * max_tokens)
    while True:
        words = min(longest, int(generator.paretovariate(TAIL)))
        yield " ".join(generator.choices(PASSAGE, k=words))


def verdict(soak: Soak) -> str:
    """Summarize the growth in one sentence."""
    first, last = soak.points[0], soak.points[-1]
    where = "within" if soak.flat else "beyond"
    return (
        f"{_megabytes(last.resident_bytes)} after {last.texts:,} texts, "
        f"{_megabytes(first.resident_bytes)} after the first {first.texts:,}: "
        f"{soak.growth:+.1%}, {where} {ALLOWED:.0%}; peak {_megabytes(soak.peak_bytes)}"
    )


def record(soak: Soak, folder: Path) -> None:
    """Write ``soak-PRECISION.md``, and the chart that it shows, to `folder`."""
    # Here, because at the top they would be part of the memory that is measured.
    import matplotlib as mpl  # noqa: PLC0415

    from benchmarks.chart_style import RC, looks, memory_chart  # noqa: PLC0415

    name = f"soak-{soak.manifest.precision}"
    contender = f"embedrt {soak.manifest.precision}"
    styles = looks([contender])
    points = [(float(point.texts), point.resident_bytes / 1e6) for point in soak.points]
    first = points[0][1]
    title = f"Memory while texts of all lengths are embedded, {soak.manifest.name}"
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        figure, axes = memory_chart(title, {contender: points}, styles)
        low, high = first * (1 - ALLOWED), first * (1 + ALLOWED)
        axes.axhspan(low, high, color=styles[contender].color, alpha=0.12, lw=0)
        figure.savefig(folder / f"{name}.svg", format="svg", metadata={"Date": None})
    (folder / f"{name}.md").write_text(_report(soak, name), encoding="utf-8")


def _report(soak: Soak, name: str) -> str:
    step = max(1, len(soak.points) // ROWS)
    shown = [soak.points[0], *soak.points[step - 1 :: step]]
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("onnxruntime", "numpy"))
    python = f"{platform.machine()}, Python {platform.python_version()}"
    return "\n".join(
        (
            f"# Memory over {soak.points[-1].texts:,} texts: {soak.manifest.name}",
            "",
            "Made by `python -m benchmarks.soak BUNDLE`; "
            f"{available_threads()} threads, {python}, {versions}.",
            "",
            f"{verdict(soak)}.",
            "",
            f"![Resident memory as texts are embedded; the band is what is allowed]({name}.svg)",
            "",
            "| texts | seconds | resident |",
            "|---:|---:|---:|",
            *dict.fromkeys(_row(point) for point in shown),
            "",
        )
    )


def _row(point: Point) -> str:
    return f"| {point.texts:,} | {point.seconds:.0f} | {_megabytes(point.resident_bytes)} |"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _known(size: int | None) -> int:
    if size is None:
        raise OSError("memory cannot be read: /proc/self/status is missing; run the soak on Linux")
    return size
