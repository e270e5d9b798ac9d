"""Reads a model's tensors without running code from its files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.encoder import FloatArray, Linear, Norm, RmsNorm
from embedrt_export.quiet import gist, quiet
from embedrt_export.source.files import file_names, read_json

SAFETENSORS = "model.safetensors"
TORCH = "pytorch_model.bin"
INDEX_SUFFIX = ".index.json"
OTHER_FORMATS = frozenset({".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".pt", ".pth"})
READ = frozenset({".bin", ".safetensors"})
POINTER = b"version https://git-lfs"
WEIGHT_FILES = (SAFETENSORS, SAFETENSORS + INDEX_SUFFIX, TORCH, TORCH + INDEX_SUFFIX)


@dataclass(slots=True)
class Tensors:
    """Tensors by name, below a prefix that varies among checkpoints of one architecture."""

    tensors: Mapping[str, torch.Tensor]
    prefix: str = ""
    stored_names: Mapping[str, str] = field(default_factory=dict)
    """Names in the checkpoint of tensors that were renamed, for error messages."""

    def array(self, name: str, *, axes: int) -> FloatArray:
        """Return a tensor with `axes` axes as float32.

        Raises UnsupportedModelError naming the tensor if it is missing, has another number of axes,
        or holds NaN or infinity.
        """
        full = self.prefix + name
        if full not in self.tensors:
            raise UnsupportedModelError(f"the weights lack {full}: {self._why_absent(full)}")
        tensor = self.tensors[full]
        full = self.stored_names.get(full, full)
        if tensor.dim() != axes:
            raise UnsupportedModelError(
                f"{full} has the shape {tuple(tensor.shape)} and not {axes} axes: the weights are "
                "of another architecture"
            )
        array: FloatArray = tensor.to(torch.float32).numpy()
        if not np.isfinite([array.min(initial=0), array.max(initial=0)]).all():
            raise UnsupportedModelError(f"{full} holds NaN or infinity: the weights are broken")
        return array

    def _why_absent(self, name: str) -> str:
        """Return why there is no tensor of this name: the encoder may be part of another module."""
        longer = next((stored for stored in self.tensors if stored.endswith(f".{name}")), None)
        if longer is None:
            return "they are incomplete or of another architecture"
        return (
            f"they have {self.stored_names.get(longer, longer)}, where transformers does not look "
            "for it. Save the encoder by itself (save_pretrained of transformers)"
        )

    def whole(self, name: str) -> NDArray[np.int32]:
        """Return a tensor of whole numbers with one axis.

        Raises UnsupportedModelError if it is of another kind.
        """
        tensor = self.tensors[self.prefix + name]
        if tensor.dim() != 1 or tensor.is_floating_point() or not tensor.numel():
            raise UnsupportedModelError(f"{name} is not a list of whole numbers")
        array: NDArray[np.int32] = tensor.to(torch.int32).numpy()
        return array

    def table(self, name: str) -> FloatArray:
        """Return the weights of an embedding table."""
        return self.array(f"{name}.weight", axes=2)

    def linear(self, name: str, *, bias: bool = True) -> Linear:
        """Return the weights of a torch Linear layer, whose matrix torch stores transposed."""
        weight = self.array(f"{name}.weight", axes=2).T
        zeros = np.zeros(weight.shape[1], np.float32)
        return Linear(weight, self.array(f"{name}.bias", axes=1) if bias else zeros)

    def norm(self, name: str, epsilon: float, *, bias: bool = True) -> Norm:
        """Return the weights of a LayerNorm."""
        weight = self.array(f"{name}.weight", axes=1)
        added = self.array(f"{name}.bias", axes=1) if bias else np.zeros_like(weight)
        return Norm(weight, added, epsilon)

    def rms_norm(self, name: str, epsilon: float) -> RmsNorm:
        """Return the weights of an RMS normalization."""
        return RmsNorm(self.array(f"{name}.weight", axes=1), epsilon)

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return self.prefix + name in self.tensors

    def renamed(self, parts: Mapping[str, str]) -> Tensors:
        """Return the tensors with parts of their names replaced."""
        stored = {self._rename(name, parts): name for name in self.tensors}
        tensors = {name: self.tensors[old] for name, old in stored.items()}
        known = self.stored_names
        return Tensors(tensors, self.prefix, {n: known.get(old, old) for n, old in stored.items()})

    @staticmethod
    def _rename(name: str, parts: Mapping[str, str]) -> str:
        for old, new in parts.items():
            name = name.replace(old, new)
        return name

    def under(self, *prefixes: str) -> Tensors:
        """Return the tensors below the first of these prefixes that occurs in a name."""
        for prefix in prefixes:
            if any(name.startswith(prefix) for name in self.tensors):
                return Tensors(self.tensors, prefix)
        return Tensors(self.tensors)


def load_tensors(folder: Path) -> Tensors:
    """Map the weights in `folder`, from safetensors if present, else from a torch file.

    Torch files are read with ``weights_only=True``, which loads tensors and runs no code.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        try:
            with quiet():
                tensors |= load_file(file) if file.suffix == ".safetensors" else _load_torch(file)
        except Exception as error:
            raise SourceError(
                f"{file} cannot be read as weights ({gist(error)}). Download it again; a torch "
                "file that holds more than tensors is refused: save the model as safetensors"
            ) from error
    return Tensors({_modern(name): tensor for name, tensor in tensors.items()})


def _load_torch(file: Path) -> dict[str, torch.Tensor]:
    # Only files in the format of torch 1.6 and later can be mapped.
    mapped = is_zipfile(file)
    content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    # Those saved as parameters, which torch would differentiate, are tensors too.
    return {
        name: value.detach() for name, value in content.items() if isinstance(value, torch.Tensor)
    }


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
    raise SourceError(why_no_weights(folder, file_names(folder)))


def why_no_weights(place: Path | str, names: Collection[str]) -> str:
    """Return that a place has no weights, and what to do; `names` are its files."""
    others = unread_weights(names) or ". Download the model again"
    return f"{place} has no weights: none of {', '.join(WEIGHT_FILES)}{others}"


def unread_weights(names: Collection[str]) -> str:
    """Return the end of a message about weights of a format or name that is not read.

    Empty if there are none, or if there are weights that are read. `names` are the files of a
    folder, relative to it.
    """
    others = sorted(name for name in names if _is_unread(PurePosixPath(name)))
    if not others or not set(WEIGHT_FILES).isdisjoint(names):
        return ""
    more = ", ..." if len(others) > 3 else ""
    return (
        f"; {', '.join(others[:3])}{more} is of a format that embedrt does not read, or of another "
        "name. Export the model that it was made from, as sentence-transformers saves it"
    )


def _is_unread(path: PurePosixPath) -> bool:
    """Whether a file looks like weights, of another format or of another name at the top."""
    return path.suffix in OTHER_FORMATS or (path.suffix in READ and path.parent == PurePosixPath())


def _require_no_pointer(file: Path) -> Path:
    """Return the file; raise SourceError if it is a Git LFS pointer and not the weights."""
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
