"""Whether memory stays where it was: ``python -m benchmarks.soak BUNDLE [--texts N]``.

One process embeds texts of all lengths up to beyond the bundle's maximum, most of them short, and
looks at its resident memory after each 1,000: the first of them one text a call, as a service does,
the rest in one call. The end must be within 10 % of where it was after the first 1,000; the exit
status says so. ``--record FOLDER`` keeps the curve, as a table and as a picture.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
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
ALONE = 50  # texts of a block that come one a call
ALLOWED = 0.10
TAIL = 0.7  # of the lengths' Pareto distribution: two texts in a hundred are cut at the maximum
BEYOND = 1.2  # the longest text, in maximums
SEED = 0
ROWS = 20  # of the table; the picture has all


@dataclass(frozen=True)
class Point:
    """Where the process stood after so many texts."""

    texts: int
    seconds: float
    resident: int
    """Bytes."""


@dataclass(frozen=True)
class Soak:
    """The curve of one bundle."""

    manifest: Manifest
    points: tuple[Point, ...]
    """One for each block of texts."""
    peak: int
    """The most bytes that the process held at any time."""

    @property
    def growth(self) -> float:
        """How far the end is from where it was after the first block, as a share of that."""
        return self.points[-1].resident / self.points[0].resident - 1

    @property
    def flat(self) -> bool:
        """Whether that is within what is allowed."""
        return abs(self.growth) <= ALLOWED


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak one bundle; return 0 where memory stayed, 1 where it did not."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--texts", type=int, default=100_000, metavar="N")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="write soak.md and an SVG")
    options = parser.parse_intermixed_args(arguments)
    if options.texts < 2 * BLOCK:
        parser.error(f"--texts {options.texts}: at least {2 * BLOCK}, for an end after the start")
    soak = run(options.bundle, options.texts)
    print(verdict(soak))
    if options.record is not None:
        record(soak, options.record)
    return 0 if soak.flat else 1


def run(bundle: Path, count: int) -> Soak:
    """Embed `count` texts in blocks, telling of each."""
    points = []
    with Embedder.load(bundle) as embedder:
        texts = texts_of_all_lengths(embedder.max_tokens)
        start = time.perf_counter()
        for done in range(BLOCK, count + 1, BLOCK):
            block = list(islice(texts, BLOCK))
            for text in block[:ALONE]:
                embedder.encode(text)
            embedder.encode(block[ALONE:])
            points.append(Point(done, time.perf_counter() - start, _told(resident_bytes())))
            print(_row(points[-1]), flush=True)
        return Soak(embedder.manifest, tuple(points), _told(peak_bytes()))


def texts_of_all_lengths(max_tokens: int, seed: int = SEED) -> Iterator[str]:
    """Yield texts without end, of one word to more than `max_tokens`: the same for the same seed.

    Their lengths follow a Pareto distribution, so that short ones leave time for long ones.
    """
    generator = random.Random(seed)  # noqa: S311 - chance, not secrets
    longest = int(BEYOND * max_tokens)
    while True:
        words = min(longest, int(generator.paretovariate(TAIL)))
        yield " ".join(generator.choices(PASSAGE, k=words))


def verdict(soak: Soak) -> str:
    """Say in one sentence whether memory stayed."""
    first, last = soak.points[0], soak.points[-1]
    where = "within" if soak.flat else "beyond"
    return (
        f"{_megabytes(last.resident)} after {last.texts:,} texts, {_megabytes(first.resident)} "
        f"after the first {first.texts:,}: {soak.growth:+.1%}, {where} {ALLOWED:.0%}; "
        f"peak {_megabytes(soak.peak)}"
    )


def record(soak: Soak, folder: Path) -> None:
    """Write the curve to `folder`: ``soak-PRECISION.md`` and the picture that it shows."""
    # Here, so that neither is in the memory that was measured.
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.ticker import StrMethodFormatter  # noqa: PLC0415

    from benchmarks.chart_style import RC, axes_of, looks  # noqa: PLC0415

    name = f"soak-{soak.manifest.precision}"
    texts, sizes = zip(*((p.texts, p.resident / 1e6) for p in soak.points), strict=True)
    ours = f"embedrt {soak.manifest.precision}"
    look = looks([ours])[ours]
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        figure, axes = axes_of(
            f"Memory while texts of all lengths are embedded, {soak.manifest.name}",
            "texts embedded",
            "resident megabytes",
        )
        axes.plot(texts, sizes, color=look.color, linewidth=look.width)
        axes.axhspan(
            sizes[0] * (1 - ALLOWED), sizes[0] * (1 + ALLOWED), color=look.color, alpha=0.12, lw=0
        )
        axes.set_ylim(0, 1.2 * max(sizes))
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        figure.savefig(folder / f"{name}.svg", format="svg", metadata={"Date": None})
    (folder / f"{name}.md").write_text(_report(soak, name), encoding="utf-8")


def _report(soak: Soak, name: str) -> str:
    step = max(1, len(soak.points) // ROWS)
    shown = [soak.points[0], *soak.points[step - 1 :: step]]
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("onnxruntime", "numpy"))
    model = soak.manifest.name
    python = f"{platform.machine()}, Python {platform.python_version()}"
    place = f"{available_threads()} threads, {python}, {versions}"
    return "\n".join(
        (
            f"# Memory over {soak.points[-1].texts:,} texts: {model}",
            "",
            f"Made by `python -m benchmarks.soak BUNDLE`; {place}.",
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
    return f"| {point.texts:,} | {point.seconds:.0f} | {_megabytes(point.resident)} |"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _told(size: int | None) -> int:
    if size is None:
        raise OSError("this system does not tell a process its memory; run the soak on Linux")
    return size


if __name__ == "__main__":
    sys.exit(main())
