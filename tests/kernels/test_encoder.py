"""Tests of the kernels against their twin in numpy, over all shapes that they cover."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, Structure, c_int32, c_size_t
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedrt.engine.runner import Pauses
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
TOKENS = st.integers(1, 79)
# The token counts of the texts of a batch: all equal, or any.
COUNTS = st.one_of(
    st.builds(lambda texts, tokens: [tokens] * texts, st.integers(1, 9), TOKENS),
    st.lists(TOKENS, min_size=1, max_size=9),
    st.lists(st.integers(1, 5), min_size=1, max_size=70),
)
# Threads that overwrite each other's results may be caught late; a wrong address is found at once.
REPETITIONS = 2 if os.environ.get("ASAN_OPTIONS") else 5
# The fixtures of a path and of the library do not change.
many = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def random_ids(shape: tuple[int, ...], seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 50, shape)


def random_texts(counts: list[int], seed: int) -> list[Any]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 50, count) for count in counts]


def largest_difference(session: KernelSession, encoder: Encoder, ids: Any) -> float:
    expected = embed(encoder, ids)
    # Relative to the length: the components of a longer vector have larger steps.
    scale = np.linalg.norm(expected, axis=1, keepdims=True)
    return float(np.abs((session.run(ids) - expected) / scale).max())


@many
@given(facts=ENCODERS, counts=COUNTS)
def test_whole_encoder(
    library: Library, path: str, facts: dict[str, Any], counts: list[int]
) -> None:
    encoder = random_encoder(**facts)
    texts = random_texts(counts, facts["seed"])
    session = KernelSession(Model(library, path, encoder), path)
    assert largest_difference(session, encoder, texts) < BOUNDS[path]


@pytest.mark.parametrize("part", ["attention_output", "down"])
@many
@given(facts=ENCODERS, counts=COUNTS)
def test_one_half(
    library: Library, path: str, part: str, facts: dict[str, Any], counts: list[int]
) -> None:
    """Without attention, or without the feed-forward network."""
    encoder = without(random_encoder(**facts), part)
    session = KernelSession(Model(library, path, encoder), path)
    assert largest_difference(session, encoder, random_texts(counts, 0)) < BOUNDS[path]


def encoder_of_width(hidden: int) -> Encoder:
    """An encoder with the widths of a real model and two layers."""
    facts = {"heads": 12, "size": hidden // 12, "inner": 4 * hidden, "outliers": 16, "layers": 2}
    return random_encoder(0, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("hidden", [384, 768])
def test_real_widths(library: Library, path: str, hidden: int) -> None:
    encoder = encoder_of_width(hidden)
    session = KernelSession(Model(library, path, encoder), path)
    for counts in [[1], [79], [37] * 4, [13] * 40, [3, 79, 1, 40, 12, 12, 60, 5, 71, 2]]:
        assert largest_difference(session, encoder, random_texts(counts, 0)) < BOUNDS[path]


@pytest.mark.parametrize("inner", [96, 800])
def test_long_texts(library: Library, path: str, inner: int) -> None:
    """Attention over many vectors and tiles of keys, of which the last are filled in part.

    With AMX, products of many inputs add up 768 of them at a time, for 256 rows at a time.
    """
    encoder = random_encoder(0, inner=inner, positions=520)
    session = KernelSession(Model(library, path, encoder), path)
    for counts in [[520], [129, 256, 300, 33], [255, 257], [9], [17, 31]]:
        texts = random_texts(counts, 0)
        assert largest_difference(session, encoder, texts) < BOUNDS[path]
        alone = np.concatenate([session.run([text]) for text in texts])
        assert (session.run(texts) == alone).all()


@many
@given(facts=ENCODERS, counts=COUNTS, seed=st.integers(0, 10**6))
def test_same_bytes_alone_in_batches_and_in_threads(
    library: Library, path: str, facts: dict[str, Any], counts: list[int], seed: int
) -> None:
    session = KernelSession(Model(library, path, random_encoder(**facts)), path)
    texts = random_texts(counts, seed)
    together = session.run(texts)
    assert (together == np.concatenate([session.run([text]) for text in texts])).all()
    shuffled = np.random.default_rng(seed).permutation(len(texts))
    assert (session.run([texts[i] for i in shuffled]) == together[shuffled]).all()
    for threads in (2, 3, 7):
        assert (session.on(threads).run(texts) == together).all()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(session.on(2).run, [texts] * 8):
            assert (found == together).all()


def test_an_array_is_a_batch_of_its_rows(library: Library, path: str) -> None:
    session = KernelSession(Model(library, path, random_encoder(0)), path)
    ids = random_ids((7, 9), 0)
    assert (session.run(ids) == session.run(list(ids))).all()
    assert (session.run(ids.T) == session.run([np.array(text) for text in ids.T])).all()
    assert (session.run(ids.astype(np.int32)) == session.run(ids)).all()


def groups_of(counts: list[int]) -> int:
    """Count the groups of texts that run through all layers together: each of up to 256 rows."""
    groups, rows = 1, 0
    for count in counts:
        if rows and rows + count > 256:
            groups, rows = groups + 1, 0
        rows += count
    return groups


@settings(many, max_examples=30)
@given(facts=ENCODERS, counts=COUNTS, seed=st.integers(0, 10**6))
def test_same_bytes_with_pauses(
    library: Library, path: str, facts: dict[str, Any], counts: list[int], seed: int
) -> None:
    """A run pauses after each layer, and other texts run meanwhile."""
    session = KernelSession(Model(library, path, random_encoder(**facts)), path)
    texts, others = random_texts(counts, seed), random_texts([5, 30], seed)
    expected, expected_others = session.run(texts), session.run(others)
    pauses = 0

    def run_others() -> None:
        nonlocal pauses
        pauses += 1
        assert (session.run(others) == expected_others).all()

    assert (session.run(texts, Pauses(c_int32(1), run_others)) == expected).all()
    assert pauses == facts["layers"] * groups_of(counts)
    random = np.random.default_rng(seed)
    wanted = c_int32(1)

    def decide() -> None:
        run_others()
        wanted.value = int(random.integers(2))

    pauses = 0
    assert (session.run(texts, Pauses(wanted, decide)) == expected).all()
    assert (session.run(texts, Pauses(c_int32(0), pytest.fail)) == expected).all()
    assert 1 <= pauses <= facts["layers"] * groups_of(counts)


def test_several_threads_do_not_pause(library: Library, path: str) -> None:
    session = KernelSession(Model(library, path, encoder_of_width(384)), path).on(2)
    texts = random_texts([70] * 5, 0)
    expected = session.run(texts)
    assert (session.run(texts, Pauses(c_int32(1), pytest.fail)) == expected).all()


class Mallinfo(Structure):
    """What `mallinfo2` returns (glibc 2.33)."""

    _fields_ = (
        ("arenas", c_size_t * 4),
        ("mapped", c_size_t),
        ("fast", c_size_t * 2),
        ("allocated", c_size_t),
        ("free", c_size_t * 2),
    )


def allocated_bytes() -> int:
    """Return the memory that is allocated now; AddressSanitizer keeps freed memory resident."""
    library = CDLL(None)
    if os.environ.get("ASAN_OPTIONS"):
        library.__sanitizer_get_current_allocated_bytes.restype = c_size_t
        return int(library.__sanitizer_get_current_allocated_bytes())
    library.mallinfo2.restype = Mallinfo
    memory = library.mallinfo2()
    return int(memory.mapped + memory.allocated)


def test_a_paused_run_that_is_interrupted(library: Library, path: str) -> None:
    """Its memory is freed, and other runs are not affected."""
    session = KernelSession(Model(library, path, encoder_of_width(384)), path)
    texts = random_texts([60], 0)
    expected = session.run(texts)

    def interrupt() -> None:
        raise KeyboardInterrupt

    def run() -> None:
        with pytest.raises(KeyboardInterrupt):
            session.run(texts, Pauses(c_int32(1), interrupt))

    run()
    before = allocated_bytes()
    for _ in range(10):  # of which each has half a megabyte or more
        run()
    assert allocated_bytes() < before + 1e6
    assert (session.run(texts) == expected).all()


@pytest.mark.parametrize("hidden", [384, 768])
def test_same_bytes_of_few_rows_in_threads(library: Library, path: str, hidden: int) -> None:
    """Threads that have few rows compute columns; a batch may end in a group of few rows."""
    session = KernelSession(Model(library, path, encoder_of_width(hidden)), path)
    for counts in [[1], [2], [16], [7] * 3, [47], [60] * 5, [1, 9, 2], [79, 79, 79, 15, 6]]:
        texts = random_texts(counts, 0)
        alone = session.run(texts)
        for threads in (2, 3, 4, 7):
            for _ in range(REPETITIONS):
                assert (session.on(threads).run(texts) == alone).all(), (counts, threads)


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
    assert library.apply(path, 1, np.array([-1e30, -127], np.float32)).max() < 3e-38


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
        ([[1] * 81], "a text of 81 tokens; 1 to 80 have a position"),
        ([[]], "a batch of 1 texts and 0 tokens"),
        ([[1, 2], [], [3]], "a text of 0 tokens; 1 to 80 have a position"),
        ([[1], [2, 3, 50], [4, 5]], "token id 50 of a vocabulary of 50"),
    ],
)
def test_ids_that_the_model_does_not_have(
    library: Library, path: str, ids: list[list[int]], why: str
) -> None:
    session = KernelSession(Model(library, path, random_encoder(0)), path)
    with pytest.raises(BundleCorruptError, match=f"refuse a batch of {len(ids)} texts .{why}"):
        session.run([np.array(text, np.int64) for text in ids])
