"""Bundles against sentence-transformers in torch, on the same texts. See README.md beside this."""

from __future__ import annotations

import argparse
import csv
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from embedrt import Embedder
from embedrt.processor import CPUINFO
from embedrt.threads import available_threads
from embedrt_export.source import find_source

TEXTS = Path(__file__).parents[1] / "tests" / "data" / "stsb" / "stsb-en-test.csv"
SENTENCES = 300
SENTENCES_IN_A_LONG_TEXT = 10
SINGLE_TOKENS = (16, 64, 256)
LOWEST_COSINE = 0.98
TORCH = "sentence-transformers fp32"

Encode = Callable[[list[str]], NDArray[np.float32]]


def main() -> None:
    """Measure and print a table, and a row of JSON for machines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="what they were exported from")
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(available_threads())
    model = SentenceTransformer(str(find_source(options.model).folder), device="cpu")
    contenders: dict[str, Encode] = {TORCH: model.encode}
    contenders |= {bundle.name: Embedder.load(bundle).encode for bundle in options.bundles}
    rows = [
        {"work": name} | _measure(contenders, texts, options.repetitions)
        for name, texts in _workloads().items()
    ]
    for row in rows:
        _print_row(row)
    json.dump({"machine": _machine(), "seconds": rows}, sys.stdout)
    print()


def _workloads() -> dict[str, list[str]]:
    with TEXTS.open(newline="", encoding="utf-8") as file:
        sentences = [row[0] for row in csv.reader(file)][:SENTENCES]
    long = [
        " ".join(np.roll(sentences, -start)[:SENTENCES_IN_A_LONG_TEXT])
        for start in range(len(sentences))
    ]
    # "city" is one token, and two special ones come with every text.
    single = {f"one text of {count} tokens": ["city " * (count - 2)] for count in SINGLE_TOKENS}
    return {f"{len(sentences) + len(long)} texts, mixed": sentences + long} | single


def _measure(
    contenders: Mapping[str, Encode], texts: list[str], repetitions: int
) -> dict[str, float]:
    """Return each contender's median seconds, or exit naming the one that answers wrongly."""
    expected = contenders[TORCH](texts)
    for name, encode in contenders.items():
        lowest = float(np.min(np.sum(encode(texts) * expected, axis=1)))
        if lowest < LOWEST_COSINE:
            raise SystemExit(f"{name} answers wrongly: its cosine to torch is {lowest:.3f}")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, encode in contenders.items():
            start = time.perf_counter()
            encode(texts)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def _print_row(row: Mapping[str, str | float]) -> None:
    print(row["work"])
    for name, seconds in list(row.items())[1:]:
        ratio = float(row[TORCH]) / float(seconds)
        print(f"  {name:<32} {float(seconds) * 1000:9.1f} ms   {ratio:5.2f} x torch's speed")


def _machine() -> dict[str, str | int]:
    """What the figures depend on."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = ("embedrt", "onnxruntime", "sentence-transformers", "tokenizers", "torch")
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": available_threads(),
        **{package: metadata.version(package) for package in packages},
    }


if __name__ == "__main__":
    main()
