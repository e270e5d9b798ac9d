"""Tests of the four models without published weights at hand, at full size with random weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from comparison import Pair, assert_agrees, texts_of_every_length
from embedrt import Embedder
from embedrt_export import export_model
from embedrt_export.source.recipe import load_recipes
from model_folders import FULL_SIZE, make_full_size

pytestmark = pytest.mark.slow

LENGTHS = [2, 3, 5, 8, 16, 17, 31, 64, 100, 127, 128, 129, 200, 255, 256, 257, 300, 383, 384]
PAST = 20


@pytest.fixture(scope="module", params=FULL_SIZE)
def named_pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Pair]]:
    """The name of one of the models, and its folder and bundle, which are deleted afterwards."""
    name: str = request.param
    parent = tmp_path_factory.mktemp("full-size")
    folder = make_full_size(parent / "model", name)
    yield name, Pair(folder, export_model(name, files=folder, output=parent / "bundle"))
    shutil.rmtree(parent)


def test_manifest(named_pair: tuple[str, Pair]) -> None:
    name, pair = named_pair
    recipe = load_recipes()[name]
    with Embedder.load(pair.bundle, verify="sha256") as embedder:
        manifest = embedder.manifest
    assert manifest.name == f"{name}-fp32"
    assert manifest.source.id == recipe.id
    assert manifest.builder == "fused"
    assert (manifest.family, manifest.dimension) == (recipe.expect["family"], 768)
    assert manifest.max_tokens == (384 if manifest.family == "mpnet" else 512)
    assert manifest.normalized is (name != "msmarco-distilbert-dot-v5")
    assert manifest.similarity == ("cosine" if manifest.normalized else "dot")


def test_agrees_at_a_spread_of_lengths_and_past_the_maximum(
    named_pair: tuple[str, Pair],
) -> None:
    _, pair = named_pair
    with Embedder.load(pair.bundle) as embedder:
        maximum = embedder.max_tokens
        texts = texts_of_every_length(embedder, maximum + PAST)
    wanted = {*LENGTHS, *range(maximum - 2, maximum + 3), maximum + PAST}
    assert_agrees(pair, [texts[length] for length in sorted(wanted)])


def test_same_bytes(named_pair: tuple[str, Pair]) -> None:
    _, pair = named_pair
    texts = [" ".join([word] * count) for word in ("a", "city") for count in (1, 2, 7, 30, 62)]
    with Embedder.load(pair.bundle, threads=1) as embedder:
        alone = [embedder.encode(text).tobytes() for text in texts]
    for threads in (1, 2, 3):
        with Embedder.load(pair.bundle, threads=threads) as embedder:
            batch = embedder.encode(texts * 2)
            assert [vector.tobytes() for vector in batch] == alone * 2


def test_random_weights_distinguish_texts(named_pair: tuple[str, Pair]) -> None:
    """If all vectors were alike, agreement with the original would prove nothing."""
    _, pair = named_pair
    with Embedder.load(pair.bundle) as embedder:
        vectors = embedder.encode(
            ["a lazy dog", "How many people live in London?"], normalize_embeddings=True
        )
    assert vectors[0] @ vectors[1] < 0.98
