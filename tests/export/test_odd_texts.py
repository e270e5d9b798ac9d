"""Compares unusual texts with sentence-transformers in torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from sentence_transformers import SentenceTransformer

from comparison import MIN_COSINE, TOLERANCE, Pair, largest_difference, original, smallest_cosine
from embedrt import Embedder
from model_folders import minilm_folder
from odd_texts import LISTS, plainly_well_formed

KINDS = ["all-MiniLM-L6-v2", "roberta", "xlm-roberta"]  # WordPiece, byte-level BPE, Unigram
MODELS = [*KINDS, "bert", "mpnet", "modernbert", "t5"]
FIRST = [pytest.param(name, marks=[] if name in KINDS else pytest.mark.slow) for name in MODELS]

Both = tuple[Embedder, SentenceTransformer]


@pytest.fixture(scope="module")
def both(minilm: Path, exported: Callable[[str], Pair]) -> Iterator[Callable[[str], Both]]:
    """Return a function that maps a model's name to its loaded bundle and the loaded original."""
    with ExitStack() as stack:

        @cache
        def load(name: str) -> Both:
            pair = Pair(minilm_folder(), minilm) if name == MODELS[0] else exported(name)
            return stack.enter_context(Embedder.load(pair.bundle)), original(pair.folder)

        yield load


def check(both: Both, texts: list[str]) -> None:
    """Compare with the original, which accepts no unpaired surrogates."""
    embedder, model = both
    plain = [plainly_well_formed(text) for text in texts]
    expected = np.asarray(model.encode(plain, prompt=""))
    found = embedder.encode(texts)
    assert largest_difference(found, expected, normalized=True) <= TOLERANCE
    assert smallest_cosine(found, expected) >= MIN_COSINE


@pytest.mark.parametrize("name", FIRST)
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(texts=LISTS)
def test_agrees(both: Callable[[str], Both], name: str, texts: list[str]) -> None:
    check(both(name), texts)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(texts=LISTS)
def test_agrees_on_many_more(both: Callable[[str], Both], name: str, texts: list[str]) -> None:
    check(both(name), texts)


@pytest.mark.parametrize("name", FIRST)
def test_agrees_on_long_texts(both: Callable[[str], Both], name: str) -> None:
    """The bundle tokenizes only part of these texts, the original all."""
    pieces = ["the lazy dog, ", "dog", "лиса ", "敏捷", " ", "\u0301", "\x00", "</s>", "[SEP]"]
    lengths = [0, 1, 3, 1_000, 10_000, 100_000]
    check(both(name), [(piece * length)[:length] for piece in pieces for length in lengths])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("piece", ["the lazy dog, ", "dog "])
def test_agrees_on_megabytes(both: Callable[[str], Both], name: str, piece: str) -> None:
    """Any text is cut to a million characters before it is tokenized; 10 MB with each algorithm.

    One piece per test: all of them would take the original half a minute and gigabytes.
    """
    characters = 10_000_000 if name in KINDS and piece == "dog " else 2_000_000
    check(both(name), [piece * (characters // len(piece))])


def test_an_unpaired_surrogate_is_refused_by_the_original(both: Callable[[str], Both]) -> None:
    """Without this, the rule for unpaired surrogates would be unnecessary."""
    embedder, model = both(MODELS[0])
    with pytest.raises(TypeError, match="TextEncodeInput"):
        model.encode(["a \udc80 b"])
    expected = model.encode(["a \ufffd b"])
    assert np.abs(embedder.encode(["a \udc80 b"]) - expected).max() <= TOLERANCE
