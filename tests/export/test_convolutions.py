"""Tests of convolutions, padding and Fourier transforms in operators that a bundle may contain."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from embedrt.bundle.graph_rules import OPERATORS
from embedrt_export.traced.convolutions import replace_convolutions
from embedrt_export.traced.spectra import mix_tokens

Array = NDArray[Any]
TOLERANCE = 2e-6  # for values of about 1


def model_of(node: onnx.NodeProto, rank: int, kind: int, **constants: Array) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info(name, kind, [f"{name}{axis}" for axis in range(rank)])
        for name in ("x", "y")
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "one", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


def run(model: onnx.ModelProto, x: Array) -> Array:
    result: Array = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    return result


def replaced(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the model with its Conv and Pad nodes replaced."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    replace_convolutions(copy.graph, numpy_helper.to_array)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[onnx.ModelProto, Array]:
    groups, taps, dilation = (draw(st.integers(1, most)) for most in (3, 5, 2))
    inputs, outputs = (groups * draw(st.integers(1, 3)) for _ in range(2))
    before, after = (draw(st.integers(0, taps * dilation)) for _ in range(2))
    second = draw(st.sampled_from([None, 1, 4]))  # a second axis, which is not mixed
    tokens = draw(st.integers((taps - 1) * dilation + 1, 12))
    flat = second is None
    random = np.random.default_rng(draw(st.integers(0, 99)))
    shape = (outputs, inputs // groups, taps) if flat else (outputs, inputs // groups, taps, 1)
    weight = random.standard_normal(shape).astype(np.float32) / (inputs * taps) ** 0.5
    constants = {"w": weight}
    if draw(st.booleans()):
        constants["b"] = random.standard_normal(outputs).astype(np.float32)
    node = helper.make_node(
        "Conv",
        ["x", *constants],
        ["y"],
        group=groups,
        pads=[before, after] if flat else [before, 0, after, 0],
        dilations=[dilation] if flat else [dilation, 1],
        strides=[1] if flat else [1, 1],
    )
    rows = (2, inputs, tokens) if second is None else (2, inputs, tokens, second)
    x = random.standard_normal(rows).astype(np.float32)
    return model_of(node, len(rows), TensorProto.FLOAT, **constants), x


@settings(max_examples=60)
@given(convolutions())
def test_convolutions(drawn: tuple[onnx.ModelProto, Array]) -> None:
    model, x = drawn
    other = replaced(model)
    assert operators(other) <= OPERATORS
    expected, found = run(model, x), run(other, x)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * max(1, np.abs(expected).max())
    alone = [run(other, row[None])[0].tobytes() for row in x]
    assert [row.tobytes() for row in found] == alone


@pytest.mark.parametrize(
    "changes",
    [
        {"strides": [2]},
        {"auto_pad": "SAME_UPPER", "pads": None},
    ],
)
def test_other_convolutions_are_left(changes: dict[str, Any]) -> None:
    settings_ = {name: v for name, v in {"pads": [1, 1], **changes}.items() if v is not None}
    node = helper.make_node("Conv", ["x", "w"], ["y"], **settings_)
    model = model_of(node, 3, TensorProto.FLOAT, w=np.ones((2, 2, 3), np.float32))
    assert operators(replaced(model)) == {"Conv"}


@pytest.mark.parametrize(
    "pads",
    [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 2, 0], [0, 1, 3, 0, 2, 0], [0] * 6, [1, 0, 0, 0, 0, 1]],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_padding(pads: list[int], dtype: type) -> None:
    x: Array = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    node = helper.make_node("Pad", ["x", "pads"], ["y"])
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = model_of(node, 3, kind, pads=np.array(pads, np.int64))
    other = replaced(model)
    assert operators(other) <= OPERATORS
    np.testing.assert_array_equal(run(other, x), run(model, x))


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_other_padding_is_left(mode: str) -> None:
    node = helper.make_node("Pad", ["x", "pads"], ["y"], mode=mode)
    model = model_of(node, 2, TensorProto.FLOAT, pads=np.array([0, 1, 0, 1], np.int64))
    assert operators(replaced(model)) == {"Pad"}


def test_padding_with_another_value_or_a_negative_count_is_left() -> None:
    one = np.ones((), np.float32)
    for pads, value in (([0, 1, 0, 1], one), ([0, -1, 0, 1], 0 * one)):
        node = helper.make_node("Pad", ["x", "pads", "value"], ["y"])
        constants: dict[str, Array] = {"pads": np.array(pads, np.int64), "value": value}
        model = model_of(node, 2, TensorProto.FLOAT, **constants)
        assert operators(replaced(model)) == {"Pad"}


@pytest.mark.parametrize("tokens", [1, 2, 3, 17, 64, 511, 512])
@pytest.mark.parametrize("width", [4, 96, 768])
def test_fourier_transform(tokens: int, width: int) -> None:
    """The result is compared with that of torch's FFT, which FNet uses."""
    rows = torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(tokens))
    exact = torch.fft.fftn(rows.double(), dim=(1, 2)).real
    error, theirs = (
        float((one.double() - exact).abs().max() / exact.abs().max())
        for one in (mix_tokens(rows), torch.fft.fftn(rows, dim=(1, 2)).real)
    )
    assert error <= max(TOLERANCE, 4 * theirs)
