"""Tests of models beyond protobuf's 2 GB: no stage holds the weights in a graph, or twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.torch import load_file

from children import peak_of
from embedrt.bundle.manifest import Precision
from embedrt.bundle.weights import MINIMUM_SIZE, WEIGHTS
from embedrt_export import export_model
from embedrt_export.encoder import Lazy
from embedrt_export.graph.weights import BLOCK, Weights, read_weight
from model_folders import make_random, make_small

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", ["bert", "big_bird"])
def test_no_stage_holds_the_weights_in_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, precision: Precision
) -> None:
    """Every graph that is written, read, checked or loaded is small, traced ones too."""
    sizes: dict[str, list[int]] = {"written": [], "read": [], "checked": [], "loaded": []}
    write, read, check, load = (
        Path.write_bytes,
        onnx.load,
        onnx.checker.check_model,
        ort.InferenceSession.__init__,
    )

    def writing(path: Path, content: bytes) -> int:
        if path.suffix == ".onnx":
            sizes["written"].append(len(content))
        return write(path, content)

    def reading(path: Path, **options: Any) -> onnx.ModelProto:
        model = read(path, **options)
        sizes["read"].append(model.ByteSize())
        return model

    def checking(model: Path, **options: Any) -> None:
        sizes["checked"].append(Path(model).stat().st_size)
        check(model, **options)

    def loading(
        session: ort.InferenceSession, model: str | bytes, *rest: Any, **options: Any
    ) -> None:
        size = len(model) if isinstance(model, bytes) else Path(model).stat().st_size
        sizes["loaded"].append(size)
        load(session, model, *rest, **options)

    monkeypatch.setattr(Path, "write_bytes", writing)
    monkeypatch.setattr(onnx, "load", reading)
    monkeypatch.setattr(onnx.checker, "check_model", checking)
    monkeypatch.setattr(ort.InferenceSession, "__init__", loading)
    folder = make_small(tmp_path / family, family, whole=True)
    bundle = export_model(str(folder), output=tmp_path / "bundle", precision=precision)
    weights = (bundle / WEIGHTS).stat().st_size
    assert weights > 900_000
    assert sizes["written"]
    assert sizes["checked"]
    assert sizes["loaded"]
    assert bool(sizes["read"]) is (family == "big_bird" or precision == "int8")
    assert max(size for kind in sizes.values() for size in kind) < 300_000


class TestWeights:
    @pytest.mark.parametrize("dtype", [np.float32, np.int8, np.int64, np.uint8, np.float64])
    @pytest.mark.parametrize("shape", [(), (1,), (7, 3), (300, 70), (0, 4), (3, 50, 7)])
    @pytest.mark.parametrize("transposed", [False, True])
    def test_arrays_round_trip(
        self, tmp_path: Path, shape: tuple[int, ...], dtype: type, transposed: bool
    ) -> None:
        counted = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        array: NDArray[Any] = (counted % 251).astype(dtype)
        array = array.T if transposed else array
        with Weights(tmp_path) as weights:
            weights.add("before", np.ones(100, np.float32))
            tensor = weights.add("array", array)
        found = read_weight(tmp_path / "model.onnx", tensor)
        assert np.array_equal(found, array)
        assert found.dtype == array.dtype
        assert bool(tensor.external_data) is (array.nbytes >= MINIMUM_SIZE)

    def test_the_bytes_are_those_of_onnx(self, tmp_path: Path) -> None:
        """The array is transposed and longer than one block."""
        array = np.random.default_rng(0).random((3, BLOCK // 5), np.float32).T
        with Weights(tmp_path) as weights:
            weights.add("array", array)
        expected = numpy_helper.from_array(np.ascontiguousarray(array)).raw_data
        assert (tmp_path / WEIGHTS).read_bytes() == expected


def test_layers_are_read_when_they_are_used() -> None:
    read: list[int] = []

    def note(index: int) -> int:
        read.append(index)
        return 10 * index

    items = Lazy(3, note)
    assert len(items) == 3
    assert read == []
    assert list(items) == [0, 10, 20]
    assert items[-1] == 20
    assert list(items[1:]) == [10, 20]
    assert read == [0, 1, 2, 2, 1, 2]
    with pytest.raises(IndexError):
        items[3]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "legacy"])
def test_torch_files(tmp_path: Path, name: str) -> None:
    """Torch files are memory-mapped, except those of torch before 1.6, which cannot be."""
    folder = make_small(tmp_path / "bert", "bert")
    file = folder / "model.safetensors"
    expected = export_model(str(folder), output=tmp_path / "expected")
    torch.save(
        load_file(file),
        folder / "pytorch_model.bin",
        _use_new_zipfile_serialization=name != "legacy",
    )
    file.unlink()
    bundle = export_model(str(folder), output=tmp_path / "bundle")
    assert (bundle / WEIGHTS).read_bytes() == (expected / WEIGHTS).read_bytes()


@pytest.fixture(scope="module")
def xlmr_large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    parent = tmp_path_factory.mktemp("large")
    yield make_random(
        parent / "model",
        layers=24,
        hidden=1024,
        vocabulary=250_002,
        positions=514,
        max_tokens=32,  # so that the proof takes only minutes
    )
    shutil.rmtree(parent)


MEASURED = """
import sys
from pathlib import Path
from embedrt_export import export_model

export_model(sys.argv[1], output=Path(sys.argv[2]), precision=sys.argv[3])
"""
LOADED = """
import sys
from embedrt import Embedder

with Embedder.load(sys.argv[1]) as embedder:
    embedder.encode(["a lazy dog " * n for n in range(1, 20)])
"""


@pytest.mark.slow
class TestFullSize:
    """XLM-R large: 24 layers of 1,024, a vocabulary of 250,002, 2.2 GB in fp32."""

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_memory(self, xlmr_large: Path, tmp_path: Path, precision: Precision) -> None:
        """The peak is at most 1.5 times the fp32 weights to export, and about the file's to run."""
        bundle = tmp_path / "bundle"
        exported = peak_of(MEASURED, xlmr_large, bundle, precision)
        size = (xlmr_large / "model.safetensors").stat().st_size
        assert size > 2**31
        assert exported < 1.5 * size
        weights = (bundle / WEIGHTS).stat().st_size
        assert weights > (2**31 if precision == "fp32" else size / 5)
        assert peak_of(LOADED, bundle) < 1.1 * weights + 50e6
        shutil.rmtree(bundle)
