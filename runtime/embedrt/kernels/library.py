"""The C library of the package `embedrt-kernels`, called with ctypes.

The structures are those of ``runtime/kernels/src/interface.h``. A call releases the GIL.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_uint32,
    c_uint64,
)
from ctypes import c_void_p as pointer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embedrt.engine.huge_pages import Regions
from embedrt.engine.runner import Pauses
from embedrt.kernels.encoder import Array, Encoder, Layer, Linear, Norm

INTERFACE = 6
MESSAGE_BYTES = 300
PEAKS = ("fp32", "vnni", "bf16", "amx")  # by EMBEDRT_PEAK_...


class LibraryError(Exception):
    """The library does not load, or refuses a model or a batch. The message says why."""


class _Array(Structure):
    _fields_: ClassVar = [("data", pointer), ("bytes", c_uint64)]


class _Linear(Structure):
    _fields_: ClassVar = [
        ("scale", c_float),
        ("zero", c_int32),
        ("smoothing", _Array),
        ("weight", _Array),
        ("weight_scale", _Array),
        ("bias", _Array),
        ("outliers", _Array),
        ("outlier_rows", _Array),
    ]


class _Norm(Structure):
    _fields_: ClassVar = [("weight", _Array), ("bias", _Array), ("epsilon", c_float)]


class _Layer(Structure):
    _fields_: ClassVar = [
        ("query_key_value", _Linear),
        ("attention_output", _Linear),
        ("attention_norm", _Norm),
        ("up", _Linear),
        ("down", _Linear),
        ("output_norm", _Norm),
    ]


class Description(Structure):
    """An encoder as the library reads it. The arrays must outlive it, and a model made of it."""

    _fields_: ClassVar = [
        *((name, c_int64) for name in ("hidden", "heads", "inner", "vocabulary")),
        *((name, c_int64) for name in ("positions", "padding_id", "distances", "layers")),
        ("attention_scale", c_float),
        ("pooling", c_int32),
        ("normalized", c_int32),
        ("words", _Array),
        ("word_scales", _Array),
        ("position_rows", _Array),
        ("relative_bias", _Array),
        ("embedding_norm", _Norm),
        ("layer", POINTER(_Layer)),
    ]


def describe(encoder: Encoder) -> Description:
    """Return the description of an encoder, which refers to the encoder's arrays."""
    bias = encoder.relative_bias
    return Description(
        hidden=encoder.hidden,
        heads=encoder.heads,
        inner=encoder.layers[0].up.weight.shape[1],
        vocabulary=len(encoder.words),
        positions=len(encoder.position_rows),
        padding_id=-1 if encoder.padding_id is None else encoder.padding_id,
        distances=0 if bias is None else bias.shape[1],
        layers=len(encoder.layers),
        attention_scale=encoder.attention_scale,
        pooling=0 if encoder.mean else 1,
        normalized=int(encoder.normalized),
        words=_array(encoder.words),
        word_scales=_array(encoder.word_scales),
        position_rows=_array(encoder.position_rows),
        relative_bias=_array(bias),
        embedding_norm=_norm(encoder.embedding_norm),
        layer=(_Layer * len(encoder.layers))(*map(_layer, encoder.layers)),
    )


def _array(values: Array | None) -> _Array:
    if values is None:
        return _Array()
    assert values.flags.c_contiguous  # views of a file are
    return _Array(values.ctypes.data, values.nbytes)


def _linear(linear: Linear) -> _Linear:
    return _Linear(
        scale=linear.scale,
        zero=linear.zero,
        smoothing=_array(linear.smoothing),
        weight=_array(linear.weight),
        weight_scale=_array(linear.weight_scale),
        bias=_array(linear.bias),
        outliers=_array(linear.outliers),
        outlier_rows=_array(linear.outlier_rows),
    )


def _norm(norm: Norm) -> _Norm:
    return _Norm(_array(norm.weight), _array(norm.bias), norm.epsilon)


def _layer(layer: Layer) -> _Layer:
    return _Layer(
        query_key_value=_linear(layer.query_key_value),
        attention_output=_linear(layer.attention_output),
        attention_norm=_norm(layer.attention_norm),
        up=_linear(layer.up),
        down=_linear(layer.down),
        output_norm=_norm(layer.output_norm),
    )


class Library:
    """The loaded library. Raises LibraryError if it does not load, or has another interface."""

    def __init__(self, file: Path) -> None:
        try:
            self._library: Any = ctypes.CDLL(str(file))
            found = self._library.embedrt_interface()
        except (OSError, AttributeError) as error:
            raise LibraryError(f"{file} does not load ({error})") from error
        if found != INTERFACE:
            raise LibraryError(
                f"{file} has interface {found} and this embedrt needs {INTERFACE}; install the "
                "versions of embedrt and embedrt-kernels that belong together"
            )
        message: tuple[Any, Any] = (c_char_p, c_uint64)
        self._library.embedrt_path.argtypes = [c_uint32]
        self._library.embedrt_path.restype = c_char_p
        self._library.embedrt_create.argtypes = [
            POINTER(Description), c_char_p, POINTER(pointer), *message
        ]  # fmt: skip
        self._library.embedrt_run.argtypes = [
            pointer, c_int32, pointer, c_int64, pointer, c_int64, pointer, c_uint64,
            POINTER(c_int32), POINTER(pointer), *message
        ]  # fmt: skip
        self._library.embedrt_drop.argtypes = [pointer]
        self._library.embedrt_drop.restype = None
        self._library.embedrt_block.argtypes = [pointer, c_uint64, POINTER(_Array)]
        self._library.embedrt_destroy.argtypes = [pointer]
        self._library.embedrt_destroy.restype = None
        self._library.embedrt_apply.argtypes = [c_char_p, c_int32, pointer, pointer, c_int64]
        self._library.embedrt_peak.argtypes = [c_int32, POINTER(c_double)]

    def path(self, masked: int = 0) -> str | None:
        """Return the name of the fastest path for this processor; None if there is none.

        `masked` are bits of ``EMBEDRT_FEATURE_...``, features that are taken as absent. Without
        AMX among them, Linux is asked for its registers, where the processor has it.
        """
        name = self._library.embedrt_path(masked)
        return None if name is None else str(name.decode())

    def create(self, description: Description, path: str) -> int:
        """Return a model for a path, to be destroyed after use; raise LibraryError."""
        model = pointer()
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        status = self._library.embedrt_create(
            byref(description), path.encode(), byref(model), message, len(message)
        )
        if status:
            raise LibraryError(message.value.decode())
        assert model.value is not None
        return model.value

    def run(
        self,
        model: int,
        ids: NDArray[np.int64],
        token_counts: NDArray[np.int64],
        hidden: int,
        *,
        threads: int = 1,
        pauses: Pauses | None = None,
    ) -> NDArray[np.float32]:
        """Embed texts of any token counts; return their embeddings, (texts, hidden).

        `ids` are those of all texts, one text after another, (tokens,), and `token_counts` the
        number of each text's, (texts,). With one thread, `pauses` may interrupt the run between
        layers. Raises LibraryError, and what `pauses` raises.
        """
        embeddings = np.empty((len(token_counts), hidden), np.float32)
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        wanted = None if pauses is None else byref(pauses.wanted)
        rest = pointer()
        try:
            while True:
                status = self._library.embedrt_run(
                    model, threads, ids.ctypes.data, len(ids), token_counts.ctypes.data,
                    len(token_counts), embeddings.ctypes.data, embeddings.nbytes, wanted,
                    byref(rest), message, len(message),
                )  # fmt: skip
                if status:
                    raise LibraryError(message.value.decode())
                if pauses is None or not rest:
                    return embeddings
                pauses.use()
        finally:
            if rest:
                self._library.embedrt_drop(rest)

    def regions(self, model: int) -> Regions:
        """Return the first address and the end of each part of a model's packed weights."""
        found: Regions = []
        block = _Array()
        while self._library.embedrt_block(model, len(found), byref(block)) == 0:
            found.append((block.data, block.data + block.bytes))
        return found

    def destroy(self, model: int) -> None:
        """Free a model."""
        self._library.embedrt_destroy(model)

    def apply(self, path: str, which: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply one of a path's functions to values, for tests: 0 GELU, 1 exp2."""
        results = np.empty_like(values)
        status = self._library.embedrt_apply(
            path.encode(), which, values.ctypes.data, results.ctypes.data, values.size
        )
        if status:
            raise LibraryError(f"status {status}")
        return results

    def peak(self, which: int) -> float:
        """Measure what this thread computes at most, in operations per second; 0 if it cannot.

        `which` is an index of `PEAKS`. Raises LibraryError if there is none of this number.
        """
        rate = c_double()
        if status := self._library.embedrt_peak(which, byref(rate)):
            raise LibraryError(f"there is no peak {which} (status {status})")
        return rate.value
