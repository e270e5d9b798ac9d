"""Writes arrays to a weights file as they are added, so that no graph holds them in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from embedrt.bundle.reader import GRAPH
from embedrt.bundle.weights import (
    ALIGNMENT,
    ITEM_SIZES,
    LENGTH,
    LOCATION,
    MINIMUM_SIZE,
    OFFSET,
    WEIGHTS,
)

BLOCK = 1 << 24  # bytes of an array that are made contiguous at once


class Weights:
    """The weights file of a graph under construction, in the format of a bundle's.

    A context manager: the file is complete when it is closed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / WEIGHTS).open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, name: str, array: NDArray[Any]) -> TensorProto:
        """Write an array; return a tensor that refers to it. Small tensors hold their values."""
        array = np.asarray(array)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        if array.nbytes < MINIMUM_SIZE or kind not in ITEM_SIZES:
            return small_tensor(name, array)
        self._file.write(bytes(-self._file.tell() % ALIGNMENT))
        place = {LOCATION: WEIGHTS, OFFSET: self._file.tell(), LENGTH: array.nbytes}
        for block in _blocks(array):
            self._file.write(block.data)
        tensor = TensorProto(
            dims=array.shape, data_type=kind, name=name, data_location=TensorProto.EXTERNAL
        )
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor


def digest(array: NDArray[Any]) -> tuple[object, ...]:
    """Return a digest that is equal only for arrays with the same values, type and shape."""
    hashed = hashlib.blake2b()
    for block in _blocks(array):
        hashed.update(block.data)
    return array.dtype.str, array.shape, hashed.digest()


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the array by blocks of rows, each contiguous."""
    rows = max(1, BLOCK * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        yield np.ascontiguousarray(array[start : start + rows])


def small_tensor(name: str, array: NDArray[Any]) -> TensorProto:
    """Return a tensor that holds its values."""
    return numpy_helper.from_array(np.asarray(array, order="C"), name)


def write_graph(folder: Path, model: onnx.ModelProto) -> Path:
    """Write a graph, whose weights are in `folder` already; return its path."""
    path = folder / GRAPH
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def read_graph(path: Path) -> onnx.ModelProto:
    """Return a graph without the weights beside it."""
    return onnx.load(path, load_external_data=False)


def read_weight(graph: Path, tensor: TensorProto) -> NDArray[Any]:
    """Return the values of a tensor of `graph`, mapped if they are in the weights file."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    place = {entry.key: entry.value for entry in tensor.external_data}
    return np.memmap(
        graph.with_name(place[LOCATION]),
        dtype=helper.tensor_dtype_to_np_dtype(tensor.data_type),
        mode="r",
        offset=int(place.get(OFFSET, 0)),
        shape=tuple(tensor.dims),
    )
