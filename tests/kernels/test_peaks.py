"""Tests of the peaks that the kernels are measured against."""

from __future__ import annotations

import pytest

from benchmarks.machine.describe import describe_machine
from embedrt.kernels.library import PEAKS, Library, LibraryError

NEEDED = {"fp32": "avx512f", "vnni": "avx512_vnni", "bf16": "avx512_bf16", "amx": "amx_int8"}


@pytest.mark.parametrize("kind", PEAKS)
def test_a_peak_is_positive_where_the_processor_has_it(library: Library, kind: str) -> None:
    rate = library.peak(PEAKS.index(kind))
    if library.path() is not None and NEEDED[kind] in describe_machine().instruction_sets:
        assert rate > 1e9
    else:
        assert rate == 0


@pytest.mark.parametrize("which", [-1, len(PEAKS)])
def test_an_unknown_peak_is_an_error(library: Library, which: int) -> None:
    with pytest.raises(LibraryError, match=f"no peak {which}"):
        library.peak(which)
