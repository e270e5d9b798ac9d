"""Tests of the kernels against their twin in numpy, over all shapes that they cover."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedrt.errors import BundleCorruptError, NonFiniteEmbeddingError
from embedrt.kernels.encoder import Encoder
from embedrt.kernels.library import Library
from embedrt.kernels.session import KernelSession, Model
from kernels_twin import embed, gelu, random_encoder, without

# A byte that rounds the other way changes a component by less, and a wrong constant by more, on
# average. Larger in bf16, whose rounding moves more values over the edge of a step.
BOUNDS = {
    "avx512-vnni": 0.012,
    "avx512-bf16": 0.015,
    "amx-int8": 0.015,
    "amx-int8-emulated": 0.015,
}

ENCODERS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "heads": st.integers(1, 5),
        "size": st.sampled_from([32, 64]),
        "inner": st.sampled_from([32, 96, 160, 416]),
        "layers": st.integers(1, 2),
        "outliers": st.sampled_from([0, 1, 7, 16]),
        "padding_id": st.sampled_from([None, 0, 1]),
        "distances": st.sampled_from([0, 1, 9, 201]),
        "mean": st.booleans(),
        "normalized": st.booleans(),
    }
)
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 79))
# The fixtures of a path and of the library do not change.
many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def random_ids(shape: tuple[int, ...], seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 50, shape)


def largest_difference(session: KernelSession, encoder: Encoder, ids: Any) -> float:
    expected = embed(encoder, ids)
    # Relative to the length: the components of a longer vector have larger steps.
    scale = np.linalg.norm(expected, axis=1, keepdims=True)
    return float(np.abs((session.run(ids) - expected) / scale).max())


@many
@given(facts=ENCODERS, shape=SHAPES)
def test_whole_encoder(
    library: Library, path: str, facts: dict[str, Any], shape: tuple[int, int]
) -> None:
    encoder = random_encoder(**facts)
    ids = random_ids(shape, facts["seed"])
    session = KernelSession(Model(library, path, encoder), path)
    assert largest_difference(session, encoder, ids) < BOUNDS[path]


@pytest.mark.parametrize("part", ["attention_output", "down"])
@many
@given(facts=ENCODERS, shape=SHAPES)
def test_one_half(
    library: Library, path: str, part: str, facts: dict[str, Any], shape: tuple[int, int]
) -> None:
    """Without attention, or without the feed-forward network."""
    encoder = without(random_encoder(**facts), part)
    session = KernelSession(Model(library, path, encoder), path)
    assert largest_difference(session, encoder, random_ids(shape, 0)) < BOUNDS[path]


def encoder_of_width(hidden: int) -> Encoder:
    """An encoder with the widths of a real model and two layers."""
    facts = {"heads": 12, "size": hidden // 12, "inner": 4 * hidden, "outliers": 16, "layers": 2}
    return random_encoder(0, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("hidden", [384, 768])
def test_real_widths(library: Library, path: str, hidden: int) -> None:
    encoder = encoder_of_width(hidden)
    session = KernelSession(Model(library, path, encoder), path)
    for shape in [(1, 1), (1, 79), (4, 37), (40, 13)]:
        assert largest_difference(session, encoder, random_ids(shape, 0)) < BOUNDS[path]


@pytest.fixture
def amx(path: str) -> str:
    """A path whose products are in tiles."""
    if not path.startswith("amx"):
        pytest.skip(f"{path} has no tiles")
    return path


@many
@given(facts=ENCODERS, shape=SHAPES, threads=st.sampled_from([1, 2, 5]))
def test_amx_gives_the_bytes_of_bf16(
    library: Library, amx: str, facts: dict[str, Any], shape: tuple[int, int], threads: int
) -> None:
    """Whatever tiles a product is cut into, its sums are exact, and all else is the same code."""
    encoder = random_encoder(**facts)
    ids = random_ids(shape, facts["seed"])
    found, expected = (
        KernelSession(Model(library, name, encoder), name, threads=threads).run(ids)
        for name in (amx, "avx512-bf16")
    )
    assert (found == expected).all()


@many
@given(facts=ENCODERS, shape=SHAPES, seed=st.integers(0, 10**6))
def test_same_bytes_alone_in_batches_and_in_threads(
    library: Library, path: str, facts: dict[str, Any], shape: tuple[int, int], seed: int
) -> None:
    session = KernelSession(Model(library, path, random_encoder(**facts)), path)
    ids = random_ids(shape, seed)
    together = session.run(ids)
    assert (together == np.concatenate([session.run(text[None]) for text in ids])).all()
    shuffled = np.random.default_rng(seed).permutation(len(ids))
    assert (session.run(ids[shuffled]) == together[shuffled]).all()
    for threads in (2, 3, 7):
        assert (session.on(threads).run(ids) == together).all()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(session.on(2).run, [ids] * 8):
            assert (found == together).all()


@pytest.mark.parametrize("hidden", [384, 768])
def test_same_bytes_of_few_rows_in_threads(library: Library, path: str, hidden: int) -> None:
    """Threads that have few rows compute columns; a batch may end in a group of few rows."""
    session = KernelSession(Model(library, path, encoder_of_width(hidden)), path)
    for shape in [(1, 1), (1, 2), (1, 16), (3, 7), (1, 47), (5, 60)]:
        ids = random_ids(shape, 0)
        alone = session.run(ids)
        for threads in (2, 3, 4, 7):
            for _ in range(5):
                assert (session.on(threads).run(ids) == alone).all(), (shape, threads)


@many
@given(values=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=70))
def test_gelu(library: Library, path: str, values: list[float]) -> None:
    given_values = np.array(values, np.float32)
    expected = gelu(given_values.astype(np.float64))
    assert np.abs(library.apply(path, 0, given_values) - expected).max() < 2e-4


def test_gelu_in_its_range(library: Library, path: str) -> None:
    values = np.linspace(-8, 8, 100_001, dtype=np.float32)
    expected = gelu(values.astype(np.float64))
    assert np.abs(library.apply(path, 0, values) - expected).max() < 4e-5


def test_exp2(library: Library, path: str) -> None:
    values = np.linspace(-125, 0, 100_001, dtype=np.float32)
    expected = np.exp2(values.astype(np.float64))
    assert np.abs(library.apply(path, 1, values) / expected - 1).max() < 3e-6
    assert library.apply(path, 1, np.array([-1e30, -127], np.float32)).max() < 2e-38


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_values_are_never_returned(library: Library, path: str, value: float) -> None:
    encoder = random_encoder(0)
    encoder.word_scales[3] = value
    session = KernelSession(Model(library, path, encoder), path)
    assert np.isfinite(session.run(np.array([[1, 2, 4]]))).all()
    with pytest.raises(NonFiniteEmbeddingError, match=r"NaN or infinity.*embedrt verify"):
        session.run(np.array([[1, 3, 4]]))


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([[1, 50]], "token id 50 of a vocabulary of 50"),
        ([[1, -1]], "token id -1"),
        ([[1] * 81], "81 tokens; at most 80 have a position"),
        ([[]], "a batch of shape 1 x 0"),
    ],
)
def test_ids_that_the_model_does_not_have(
    library: Library, path: str, ids: list[list[int]], why: str
) -> None:
    session = KernelSession(Model(library, path, random_encoder(0)), path)
    with pytest.raises(BundleCorruptError, match=why):
        session.run(np.array(ids, np.int64))
