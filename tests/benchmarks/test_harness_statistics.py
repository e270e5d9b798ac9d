"""Tests of the statistics on numbers with known results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.statistics import median, percentile, ratio, spread

POSITIVE = st.floats(1e-6, 1e6)


def test_known_numbers() -> None:
    values = [3.0, 1.0, 2.0, 5.0, 4.0]
    assert median(values) == 3
    assert percentile(values, 0) == 1
    assert percentile(values, 0.25) == 2
    assert percentile(values, 0.95) == pytest.approx(4.8)
    assert percentile(values, 1) == 5
    assert spread(values) == pytest.approx((4 - 2) / 3)
    assert spread([7.0]) == 0
    assert spread([0.0, 0.0]) == 0


def test_ratio_pairs_the_rounds() -> None:
    # The machine is ten times slower in the second round, which leaves the ratio unchanged.
    assert ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == 2
    # The ratio of the medians would be 4 / 3.
    assert ratio([4.0, 9.0, 2.0], [1.0, 3.0, 4.0]) == 3


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1), POSITIVE)
def test_drift_common_to_both_does_not_matter(
    pairs: list[tuple[float, float]], slower: float
) -> None:
    above, below = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    drifted = ratio([slower * value for value in above], [slower * value for value in below])
    assert drifted == pytest.approx(ratio(above, below))


def test_series_of_different_lengths_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])
