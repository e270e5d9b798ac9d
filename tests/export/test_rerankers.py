"""Rerankers agree with CrossEncoder of sentence-transformers: families, activations, odd pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedrt import Bundle, Embedder, Reranker
from embedrt.bundle.manifest import ScoreQuantization
from embedrt.cli import main
from embedrt.errors import BundleFormatError, OverlongTextError, ProofError, UnsupportedModelError
from embedrt_export import export_model, prove_bundle
from model_folders import change_json, is_known, make_small, write_json
from rerankers import (
    FAMILIES,
    TOLERANCE,
    Made,
    export_cross_encoder,
    largest_difference,
    make_cross_encoder,
    original,
    scores_alone,
)
from sharing import made_once

LONG = "the quick brown fox jumps over the lazy dog, again and again " * 10
QUERY = "How many people live in London?"
PAIRS = [
    (QUERY, "Around 9 million people live in London."),
    (QUERY, ""),
    ("", "the lazy dog"),
    ("", ""),
    (QUERY, LONG),
    (LONG, QUERY),
    (LONG, LONG + LONG),
    (LONG + LONG, LONG),
    ("a [SEP] b", "c [SEP] d"),
    ("a </s> b", "c <s> d"),
    ("[CLS] a", "b [PAD] [MASK]"),
    ("敏捷的棕色狐狸", "naïve façade 😀"),
]
MakeReranker = Callable[[str], Made]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> MakeReranker:
    """Return a function that maps a family to a small cross-encoder and its bundle."""

    def make(family: str) -> Made:
        parent = made_once(
            tmp_path_factory, f"ranks-{family}", lambda to: export_cross_encoder(to, family)
        )
        return Made(parent / family, parent / f"{family}-fp32")

    return make


@pytest.fixture(scope="module")
def bert(made: MakeReranker) -> Iterator[Reranker]:
    with Reranker.load(made("bert").bundle, threads=2) as reranker:
        yield reranker


@pytest.mark.parametrize("family", FAMILIES)
def test_family(made: MakeReranker, family: str) -> None:
    if not is_known(family):
        pytest.skip("this transformers does not know it")
    pair = made(family)
    expected = scores_alone(original(pair.folder), PAIRS, activation_fn=torch.nn.Identity())
    with Reranker.load(pair.bundle, verify="sha256") as reranker:
        found = reranker.predict(PAIRS, activation_fn="Identity")
        assert reranker.manifest.builder == "fused"
    assert found.dtype == np.float32
    assert largest_difference(found, expected) <= TOLERANCE
