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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.harness.texts import sentences
from benchmarks.models import minilm_folder
from benchmarks.statistics import median, ratio
from benchmarks.timing import each_call, in_turns
from embedrt import Embedder

SENTENCES = 20_000
LONE = 300

Ways = dict[str, Callable[[], Any]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of one bundle."""
    parser = argparse.ArgumentParser(prog="benchmarks.static", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--distill", action="store_true", help="make MODEL, and end")
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    options = parser.parse_args(arguments)
    if options.distill:
        distill_minilm(options.model)
        return
    from model2vec import StaticModel  # noqa: PLC0415  # after the help

    model = StaticModel.from_pretrained(options.model, force_download=False)
    texts = many_sentences(SENTENCES)
    lone = texts[:LONE]
    for threads in (1, 2):
        with Embedder.load(options.bundle, threads=threads) as embedder:
            ways: Ways = {"embedrt": partial(embedder.encode, texts)}
            if threads == 1:
                ways["model2vec"] = partial(model.encode, texts, use_multiprocessing=False)
            else:
                ways["model2vec, its own threads"] = partial(model.encode, texts)
                ways["model2vec, its tokenizer's"] = partial(with_tokenizer_threads, model, texts)
            for name, way in ways.items():
                difference = np.abs(way() - ways["embedrt"]()).max()
                if difference > 1e-3:  # a table in float16, or a bundle in int8
                    print(f"{name} differs by {difference:.1e}")
            compare(f"{threads} threads", ways, len(texts), options.rounds)
            if threads == 1:
                ways = {
                    "embedrt": partial(each_call, embedder.encode, lone),
                    "model2vec": partial(each_call, model.encode, lone),
                }
                compare("one text a call", ways, LONE, options.rounds)


def distill_minilm(folder: Path) -> None:
    """Distill all-MiniLM-L6-v2 with model2vec's defaults, in float32."""
    from model2vec.distill import distill  # noqa: PLC0415  # needs model2vec[distill]

    source = str(minilm_folder())
    distill(source, quantize_to="float32", device="cpu").save_pretrained(folder)


def many_sentences(count: int) -> list[str]:
    """Return different texts, each of halves of two sentences."""
    words, chance = [sentence.split() for sentence in sentences()], random.Random(0)  # noqa: S311
    found: dict[str, None] = {}
    while len(found) < count:
        first, second = chance.choice(words), chance.choice(words)
        found[" ".join(first[: len(first) // 2] + second[len(second) // 2 :])] = None
    return list(found)


def compare(what: str, ways: Ways, texts: int, rounds: int) -> None:
    """Print the throughput of each way, and the speedup of the first over the best other one."""
    times = in_turns(ways, rounds)
    for name, one in times.items():
        wall, cpu = texts / median(one.wall), median(one.cpu) / texts
        print(f"{what}, {name}: {wall:,.0f} texts/s, {cpu * 1e6:.1f} CPU us a text")
    ours = times.pop("embedrt")
    best = min(times, key=lambda name: median(times[name].wall))
    print(
        f"{what}, over {best}: {ratio(times[best].wall, ours.wall):.2f} in wall time, "
        f"{ratio(times[best].cpu, ours.cpu):.2f} in CPU time"
    )


def with_tokenizer_threads(model: Any, texts: Sequence[str]) -> Any:
    """Return model2vec's vectors, computed in one process with the threads of its tokenizer."""
    with patch.dict(os.environ, TOKENIZERS_PARALLELISM="true"):
        return model.encode(texts, use_multiprocessing=False)


if __name__ == "__main__":
    main()
