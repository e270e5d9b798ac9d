"""Cross-encoders at full size with real settings and random weights, in fp32 and int8."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from embedrt import Bundle, Reranker
from embedrt.bundle.quantization import ScoreQuantization
from embedrt_export import export_model
from rerankers import (
    FULL_SIZE,
    TOLERANCE,
    Made,
    largest_difference,
    make_full_size,
    original,
    scores_alone,
)

pytestmark = pytest.mark.slow

QUERY = "How many people live in London?"
WORDS = "the city grew around its river because boats could carry more grain than carts did".split()


@pytest.fixture(scope="module", params=FULL_SIZE)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """One of the models, and what it was exported to; gone from the disk afterwards."""
    parent = tmp_path_factory.mktemp("full-size")
    folder = make_full_size(parent / request.param, request.param)
    yield Made(folder, export_model(str(folder), output=parent / "fp32"))
    shutil.rmtree(parent)


def documents() -> list[str]:
    generator = np.random.default_rng(0)
    lengths = (0, 1, 7, 64, 129, 480, 700)
    return [" ".join(generator.choice(WORDS, length)) for length in lengths]


def test_agrees(made: Made) -> None:
    manifest = Bundle.open(made.bundle).manifest
    assert (manifest.builder, manifest.max_tokens) == ("fused", 512)
    pairs = [(QUERY, text) for text in documents()] + [(text, QUERY) for text in documents()[::3]]
    model = original(made.folder).double()  # in float32, its own rounding is as large
    expected = scores_alone(model, pairs, activation_fn=torch.nn.Identity())
    with Reranker.load(made.bundle) as reranker:
        found = reranker.predict(pairs, activation_fn="Identity")
        alone = np.stack([reranker.predict(pair, activation_fn="Identity") for pair in pairs])
    assert largest_difference(found, expected) <= TOLERANCE
    assert alone.tobytes() == found.tobytes()
    assert expected.std() > 0.05 * np.abs(expected).max()  # else agreement would say nothing


def test_same_order(made: Made) -> None:
    expected = original(made.folder).rank(QUERY, documents())
    with Reranker.load(made.bundle) as reranker:
        found = reranker.rank(QUERY, documents())
    assert [one["corpus_id"] for one in found] == [one["corpus_id"] for one in expected]


@pytest.mark.parametrize("made", ["ms-marco-MiniLM-L6-v2"], indirect=True)
def test_int8(made: Made) -> None:
    output = made.bundle.with_name("int8")
    bundle = export_model(str(made.folder), output=output, precision="int8")
    quality = Bundle.open(bundle).manifest.quantization
    assert isinstance(quality, ScoreQuantization)
    assert quality.scheme == "static"
    assert quality.kendall_tau >= 0.9
    pairs = [(QUERY, text) for text in documents()]
    with Reranker.load(bundle) as reranker:
        found = reranker.predict(pairs)
        alone = np.stack([reranker.predict(pair) for pair in pairs])
    assert alone.tobytes() == found.tobytes()
