"""Reads a model's tensors without running code from its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.encoder import FloatArray, Linear, Norm
from embedrt_export.source.files import read_json

SAFETENSORS = "model.safetensors"
TORCH = "pytorch_model.bin"
INDEX_SUFFIX = ".index.json"
OTHER_FORMATS = frozenset({".gguf", ".h5", ".msgpack", ".onnx", ".ot"})
POINTER = b"version https://git-lfs"
WEIGHT_FILES = (SAFETENSORS, SAFETENSORS + INDEX_SUFFIX, TORCH, TORCH + INDEX_SUFFIX)


@dataclass(slots=True)
class Tensors:
    """Tensors by name, below a prefix that varies among checkpoints of one architecture."""

    tensors: Mapping[str, torch.Tensor]
    prefix: str = ""

    def array(self, name: str, *, axes: int) -> FloatArray:
        """Return a tensor with `axes` axes as float32.

        Raises UnsupportedModelError naming the tensor if it is missing, has another number of axes,
        or holds NaN or infinity.
        """
        full = self.prefix + name
        if full not in self.tensors:
            raise UnsupportedModelError(
                f"the weights lack {full}: they are incomplete or of another architecture"
            )
        tensor = self.tensors[full]
        if tensor.dim() != axes:
            raise UnsupportedModelError(
                f"{full} has the shape {tuple(tensor.shape)} and not {axes} axes: the weights are "
                "of another architecture"
            )
        array: NDArray[Any] = tensor.to(torch.float32).numpy()
        if not np.isfinite(array).all():
            raise UnsupportedModelError(f"{full} holds NaN or infinity: the weights are broken")
        return np.ascontiguousarray(array)

    def table(self, name: str) -> FloatArray:
        """Return the weights of an embedding table."""
        return self.array(f"{name}.weight", axes=2)

    def linear(self, name: str, *, bias: bool = True) -> Linear:
        """Return the weights of a torch Linear layer, whose matrix torch stores transposed."""
        weight = np.ascontiguousarray(self.array(f"{name}.weight", axes=2).T)
        zeros = np.zeros(weight.shape[1], np.float32)
        return Linear(weight, self.array(f"{name}.bias", axes=1) if bias else zeros)

    def norm(self, name: str, epsilon: float) -> Norm:
        """Return the weights of a LayerNorm."""
        weight, bias = (self.array(f"{name}.{part}", axes=1) for part in ("weight", "bias"))
        return Norm(weight, bias, epsilon)

    def under(self, *prefixes: str) -> Tensors:
        """Return the tensors below the first of these prefixes that occurs in a name."""
        for prefix in prefixes:
            if any(name.startswith(prefix) for name in self.tensors):
                return Tensors(self.tensors, prefix)
        return Tensors(self.tensors)


def load_tensors(folder: Path) -> Tensors:
    """Read the weights in `folder`, from safetensors if present, else from a torch file.

    Torch files are read with ``weights_only=True``, which loads tensors and runs no code.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        try:
            if file.suffix == ".safetensors":
                tensors |= load_file(file)
            else:
                tensors |= torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise SourceError(
                f"{file} cannot be read as weights ({error}). Download it again; a torch file that "
                "holds more than tensors is refused: save the model as safetensors"
            ) from error
    return Tensors({_modern(name): tensor for name, tensor in tensors.items()})


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights: a single file, or the shards in an index."""
    for name in WEIGHT_FILES:
        file = folder / name
        if not file.is_file():
            continue
        if not name.endswith(INDEX_SUFFIX):
            return [_require_no_pointer(file)]
        try:
            shards = sorted(set(read_json(file)["weight_map"].values()))
        except (LookupError, TypeError, AttributeError) as error:
            raise SourceError(f"{file} is not an index of weights; download it again") from error
        present = {path.name for path in folder.iterdir() if path.is_file()}
        if missing := [shard for shard in shards if shard not in present]:
            raise SourceError(f"{file} lists {missing[0]}, which is not in its folder")
        return [_require_no_pointer(folder / shard) for shard in shards]
    others = sorted(file.name for file in folder.glob("*") if file.suffix in OTHER_FORMATS)
    has = f"; {', '.join(others)} is of a format that embedrt does not read" if others else ""
    raise SourceError(f"{folder} has no weights: none of {', '.join(WEIGHT_FILES)}{has}")


def _require_no_pointer(file: Path) -> Path:
    """Return the file; raise SourceError if it only says where Git LFS has the weights."""
    with file.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            raise SourceError(
                f"{file} is a pointer of Git LFS and not the weights: fetch them with git lfs pull"
            )
    return file


def _modern(name: str) -> str:
    """Return a tensor's name with TensorFlow's LayerNorm names replaced by torch's."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )
