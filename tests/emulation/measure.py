"""Measures an int8 bundle on the processor that runs this, and prints a row of the README's table.

Without `--processor`, it writes the vectors of this machine, with which the others are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from embedrt import Embedder
from embedrt.cli import main as embedrt_command
from embedrt.engine.session import clips_int8

FILE = Path(__file__).parents[1] / "data" / "stsb" / "stsb-en-test.csv"
TEXTS = 200
ALONE = 20  # number of texts that are embedded again, one per call
LOWEST_MEAN, LOWEST_FIRST_PERCENTILE, LOWEST = 0.998, 0.994, 0.988
# The mean cosine with this machine's vectors differs by less with exact products, by more with
# clipping.
CLOSE = 5e-5

FloatArray = NDArray[np.float32]
Cosines = NDArray[np.float64]


def main() -> int:
    """Print a row; return 1 if a result is not as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fp32", type=Path)
    parser.add_argument("int8", type=Path)
    parser.add_argument("reference", type=Path, help="vectors of this machine: an npz file")
    parser.add_argument("--processor", help="the name of the one that is emulated")
    parser.add_argument("--python", help="starts a Python on it, for embedrt's child processes")
    parser.add_argument("--clipping", action="store_true", help="the control: leave it clipping")
    options = parser.parse_intermixed_args()
    if options.processor is None:
        line, good = measure_here(options.fp32, options.int8, options.reference)
    else:
        sys.executable = options.python or sys.executable
        if options.clipping:
            patch("embedrt.engine.session.clips_int8", lambda: False).start()
        line, good = measure(options.processor, options.int8, options.reference, options.clipping)
    print(line)  # noqa: T201
    return 0 if good else 1


def measure_here(fp32: Path, int8: Path, reference: Path) -> tuple[str, bool]:
    """Write the vectors of this machine; return its row and whether the quality is sufficient."""
    expected, here = (Embedder.load(path).encode(read_texts()) for path in (fp32, int8))
    np.savez(reference, fp32=expected, int8=here)
    found = cosines(here, expected)
    return row("this machine", kernel(), found, "", ""), within_gate(found)


def measure(processor: str, int8: Path, reference: Path, clipping: bool) -> tuple[str, bool]:
    """Return the processor's row and whether it is as expected (with `clipping`: wrong)."""
    texts = read_texts()
    with np.load(reference) as vectors:
        expected, here = vectors["fp32"], vectors["int8"]
    with Embedder.load(int8) as embedder:
        there = embedder.encode(texts)
        single = range(0, TEXTS, TEXTS // ALONE)
        same_bytes = all(np.array_equal(embedder.encode(texts[i]), there[i]) for i in single)
    verified = verify(int8)
    found = cosines(there, expected)
    line = row(
        processor,
        "clips, left so" if clipping else kernel(),
        found,
        "yes" if same_bytes else "NO",
        verified or "FAILS",
    )
    close = abs(float(found.mean() - cosines(here, expected).mean())) <= CLOSE
    right = close and same_bytes and bool(verified) and within_gate(found)
    return line, right is not clipping


def read_texts() -> list[str]:
    """Return sentences spread over the test set of the STS benchmark."""
    with FILE.open(newline="", encoding="utf-8") as file:
        sentences = list(dict.fromkeys(row[0] for row in csv.reader(file)))
    return sentences[:: len(sentences) // TEXTS][:TEXTS]


def cosines(a: FloatArray, b: FloatArray) -> Cosines:
    """Return the cosines of rows of the same index. Shape: (n, dimension) twice to (n,)."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    quotients: Cosines = (left * right).sum(axis=1) / lengths
    return quotients


def within_gate(found: Cosines) -> bool:
    """Whether the quality is within the limits for int8."""
    lowest = (LOWEST_MEAN, LOWEST_FIRST_PERCENTILE, LOWEST)
    return all(a >= b for a, b in zip(figures(found), lowest, strict=True))


def figures(found: Cosines) -> tuple[float, float, float]:
    """Return the mean, the first percentile and the smallest of the cosines."""
    return float(found.mean()), float(np.percentile(found, 1)), float(found.min())


def verify(bundle: Path) -> str:
    """Run ``embedrt verify``; return the largest difference that it prints, or "" if it fails."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = embedrt_command(["verify", str(bundle)])
    words = output.getvalue().split()
    return "" if status else words[words.index("difference") + 1]


def kernel() -> str:
    """Return a description of how the runtime multiplies int8 on this processor."""
    return "clips: weights made uint8" if clips_int8() else "exact"


def row(processor: str, kernel: str, found: Cosines, same_bytes: str, verified: str) -> str:
    """Return a line of the table in README.md."""
    quality = (f"{figure:.6f}" for figure in figures(found))
    cells = (processor, ort.__version__, kernel, *quality, same_bytes, verified)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
