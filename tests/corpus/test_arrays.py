"""Tests of Arrow arrays that are made without pandas."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from corpora import parts_in, write_parquet
from embedrt import Bundle
from embedrt.corpus.arrays import as_array, null_bitmap, text_scalar
from embedrt.corpus.part import runs
from embedrt.corpus.places import find_place
from embedrt.corpus.prepare import prepare
from tiny_bundle import make_tiny
from tiny_sparse import make_tiny_sparse

MAKE_PARTS = """
import pickle, sys
from embedrt.corpus.on_ray_worker import make_parts
make_parts(*pickle.load(sys.stdin.buffer))
"""


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8, np.int32])
def test_numbers(dtype: type[np.generic]) -> None:
    values = np.arange(5).astype(dtype)
    for some in (values, values[2:], values[:0]):
        array = as_array(some)
        array.validate(full=True)
        assert array.equals(pa.array(some))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_nulls(count: int) -> None:
    valid = np.arange(count) % 3 != 1
    array = pa.Array.from_buffers(
        pa.int8(), count, [null_bitmap(valid), pa.py_buffer(np.zeros(count, np.int8))]
    )
    array.validate(full=True)
    assert array.is_valid().to_pylist() == valid.tolist()
    assert null_bitmap(np.ones(count, bool)) is None


@pytest.mark.parametrize("text", ["", "2024", "a\0é\U0001f600", None])
def test_texts(text: str | None) -> None:
    assert text_scalar(text).equals(pa.scalar(text, pa.string()))


@pytest.mark.parametrize("make", [make_tiny, make_tiny_sparse])
def test_a_part_is_made_without_pandas(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """Every worker of Ray would import it before its first part."""
    bundle = make(tmp_path / "bundle")
    write_parquet(tmp_path / "source" / "year=2024")
    job = prepare(
        find_place(tmp_path / "source"),
        find_place(tmp_path / "output"),
        Bundle.open(bundle),
        text="text",
        columns=None,
        rows_per_part=100,
        skip_unreadable=False,
    )
    (run,) = islice(runs(job.plan, job.plan.parts(), 1), 1)
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "pandas.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    path = os.pathsep.join([str(modules), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", MAKE_PARTS],
        input=pickle.dumps((job.work, [None], 1, run)),
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    assert list(parts_in(tmp_path / "output")) == [run.parts[0].name]
