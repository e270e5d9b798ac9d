"""Contenders that need only numpy, one correct and others that fail in different ways."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import Encode, Setup

ENVIRONMENT = "harness"
CONTENDERS = {
    "right": "source",
    "right too": "source",
    "wrong": "source",
    "unscaled": "source",
    "short": "source",
    "dies": "source",
    "dies loading": "source",
    "refuses": "source",
    "hangs": "source",
    "chatty": "source",
    "slow": "source",
}
LOG = "FAKE_CONTENDERS_LOG"

Vectors = NDArray[np.float32]


def vector(text: str) -> Vectors:
    """Return a random unit vector that depends on the text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    drawn = np.random.default_rng(seed).normal(size=8).astype(np.float32)
    unit: Vectors = drawn / np.linalg.norm(drawn)
    return unit


def load(setup: Setup) -> Encode:
    """Load the fake with this name."""
    name = setup.name
    assert setup.artifact.is_dir()
    assert setup.threads >= 1
    if LOG in os.environ:
        with Path(os.environ[LOG]).open("a", encoding="utf-8") as log:
            log.write(f"{name} {setup.purpose} {os.getpid()}\n")
    if name == "dies loading":
        os._exit(3)
    if name == "slow":
        time.sleep(0.1)

    def encode(texts: list[str]) -> Vectors:
        vectors = np.stack([vector(text) for text in texts])
        return FAULTS[name](vectors) if name in FAULTS else vectors

    return encode


def _die(vectors: Vectors) -> Vectors:
    del vectors
    os.abort()


def _refuse(vectors: Vectors) -> Vectors:
    raise ValueError(f"no such thing as {len(vectors)} vectors in {__file__}\nand a second line")


def _hang(vectors: Vectors) -> Vectors:
    time.sleep(600)
    return vectors


def _wait(vectors: Vectors) -> Vectors:
    time.sleep(0.05)
    return vectors


def _chat(vectors: Vectors) -> Vectors:
    os.write(1, b"no answer\n")  # the stream that a worker's answers must not share
    return vectors


FAULTS: dict[str, Callable[[Vectors], Vectors]] = {
    "wrong": lambda vectors: np.roll(vectors, 1, axis=0),
    "unscaled": lambda vectors: 2 * vectors,
    "short": lambda vectors: vectors[:-1],
    "dies": _die,
    "refuses": _refuse,
    "hangs": _hang,
    "chatty": _chat,
    "slow": _wait,
}
