"""Tests of postprocessing: truncate, then normalize, then lower the precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embedrt.postprocess import Finish, quantize_embeddings
from embedrt.similarity import normalize

VECTORS = np.random.default_rng(5).standard_normal((7, 16), np.float32)


def test_no_options_change_nothing() -> None:
    finish = Finish(16, None, normalize=False, precision="float32")
    assert finish(VECTORS) is VECTORS


def test_truncate_then_normalize_then_quantize() -> None:
    finish = Finish(16, 5, normalize=True, precision="float16")
    expected = quantize_embeddings(normalize(VECTORS[:, :5].copy()), "float16")
    assert finish(VECTORS).tobytes() == expected.tobytes()
    assert finish(VECTORS[2]).tobytes() == expected[2].tobytes()


def test_truncated_vectors_do_not_keep_the_full_ones_alive() -> None:
    truncated = Finish(16, 5, normalize=False, precision="float32")(VECTORS)
    assert truncated.base is None
    assert truncated.flags.c_contiguous


@pytest.mark.parametrize("truncate_dim", [0, -1, 17])
def test_bad_truncate_dim_names_the_range(truncate_dim: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^truncate_dim={truncate_dim}; expected 1 to 16, or None$"
    ):
        Finish(16, truncate_dim, normalize=False, precision="float32")


def test_bad_precision_is_refused_before_any_vector() -> None:
    bad: Any = "bfloat16"
    with pytest.raises(ValueError, match=r"^precision='bfloat16'; expected one of"):
        Finish(16, None, normalize=False, precision=bad)
