"""Tests that each stage of int8 quantization reports invalid inputs and invalid results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from transformers import AutoConfig

from embedrt.errors import QuantizationError
from embedrt.text.tokenizer import TokenIds
from embedrt_export.assemble import Built, build_graph, quantize_graph
from embedrt_export.encoder import FloatArray, Linear
from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.nodes import Nodes
from embedrt_export.graph.weights import write_graph
from embedrt_export.int8.calibration import Range, measure_ranges
from embedrt_export.int8.conditions import to_int8
from embedrt_export.int8.quality import Quality, measure_quality
from embedrt_export.int8.scheme import Int8, quantize_weight, require_products
from embedrt_export.int8.selection import choose_scheme
from embedrt_export.int8.smoothing import smooth_values, smoothing
from embedrt_export.int8.traced import quantize_traced
from embedrt_export.source.settings import read_settings
from model_folders import HIDDEN, make_small

IDS = [np.array([101, number, 102]) for number in range(1000, 1040)]
LAYERS = ("query_key_value", "attention_output", "up", "down")
ODD = [np.nan, np.inf, -np.inf]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A small model in fp32."""
    folder = make_small(tmp_path_factory.mktemp("conditions") / "model", "bert")
    config = AutoConfig.from_pretrained(folder)
    return build_graph(read_settings(folder), config, folder.parent / "fp32")


def ones(*shape: int) -> FloatArray:
    return np.ones(shape, np.float32)


def spoiled(graph: Path, folder: Path, weight: str, value: float) -> Path:
    """Return a copy of the graph with one value of a weight replaced."""
    model = onnx.load(graph)
    tensor = next(found for found in model.graph.initializer if found.name == weight)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] = value
    tensor.CopyFrom(numpy_helper.from_array(array, weight))
    copy = folder / "fp32" / "model.onnx"
    copy.parent.mkdir()
    onnx.save(model, copy)
    return copy


class TestCalibration:
    def test_every_linear_layer_has_a_range(self, built: Built) -> None:
        ranges = measure_ranges(built.graph, built.inputs, IDS)
        assert set(ranges) == {f"layer_{n}.{kind}" for n in (0, 1) for kind in LAYERS}

    def test_no_layer(self, built: Built) -> None:
        with pytest.raises(QuantizationError, match="no linear layer"):
            measure_ranges(built.graph, {}, IDS)

    @pytest.mark.parametrize("ids", [[], [np.zeros(0, np.int64)]])
    def test_no_token(self, built: Built, ids: list[TokenIds]) -> None:
        with pytest.raises(QuantizationError, match="no text has a token"):
            measure_ranges(built.graph, built.inputs, ids)

    def test_a_text_without_tokens_among_others(self, built: Built) -> None:
        found = measure_ranges(built.graph, built.inputs, [np.zeros(0, np.int64), *IDS])
        expected = measure_ranges(built.graph, built.inputs, IDS)
        assert all(np.array_equal(found[n].largest, expected[n].largest) for n in expected)

    @pytest.mark.parametrize("value", ODD)
    def test_a_layer_with_nonfinite_input(self, built: Built, tmp_path: Path, value: float) -> None:
        graph = spoiled(built.graph, tmp_path, "layer_0.output_norm.bias", value)
        with pytest.raises(QuantizationError, match=r"calibration: what layer_1\.query_key_value"):
            measure_ranges(graph, built.inputs, IDS)


class TestSmoothing:
    @given(
        ranges=st.lists(st.floats(0, 1e6, width=32), min_size=3, max_size=3),
        weights=st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6),
        alpha=st.sampled_from([0.0, 0.5, 0.8]),
    )
    def test_factors_are_positive(
        self, ranges: list[float], weights: list[float], alpha: float
    ) -> None:
        weight = np.array(weights, np.float32).reshape(3, 2)
        try:
            factors = smoothing(np.array(ranges, np.float32), weight, alpha)
        except QuantizationError as error:
            assert "factors" in str(error)  # noqa: PT017  # values too far apart for float32
        else:
            assert np.isfinite(factors).all()
            assert (factors > 0).all()

    @pytest.mark.parametrize("value", ODD)
    def test_ranges_and_weights_that_are_not_finite(self, value: float) -> None:
        with pytest.raises(QuantizationError, match="smoothing: ranges"):
            smoothing(np.array([1, value], np.float32), ones(2, 3), 0.5)
        with pytest.raises(QuantizationError, match="smoothing: weights"):
            smoothing(ones(2), np.array([[1, 1], [value, 1]], np.float32), 0.5)

    def test_ranges_of_another_layer(self) -> None:
        with pytest.raises(QuantizationError, match=r"shape is \(3,\); expected \(2,\)"):
            smoothing(ones(3), ones(2, 3), 0.5)

    def test_a_factor_that_vanishes(self) -> None:
        ranges = np.array([1e-38, 1e38], np.float32)
        with pytest.raises(QuantizationError, match="smoothing: factors"):
            smoothing(ranges, np.array([[1e38], [1e-44]], np.float32), 0.8)

    def test_a_layer_without_a_range(self, built: Built) -> None:
        assert built.read_encoder
        ranges = measure_ranges(built.graph, built.inputs, IDS)
        del ranges["layer_1.attention_output"]
        with pytest.raises(QuantizationError, match=r"layer_1\.attention_output has no range"):
            smooth_values(built.read_encoder(), ranges)


class TestScheme:
    @pytest.mark.parametrize("value", ODD)
    def test_weights_that_are_not_finite(self, value: float) -> None:
        weight = ones(2, 3)
        weight[0, 1] = value
        with pytest.raises(QuantizationError, match="up, weights"):
            quantize_weight("up", weight)

    @pytest.mark.parametrize("scale", [*ODD, 0.0, -1.0])
    def test_invalid_scales(self, scale: float) -> None:
        with pytest.raises(QuantizationError, match="up, scales"):
            to_int8("up", ones(2, 1), np.array([scale], np.float32))

    def test_weights_beyond_the_bytes(self) -> None:
        assert to_int8("up", 127 * ones(2, 1), ones(1)).tolist() == [[127], [127]]
        with pytest.raises(QuantizationError, match="128 steps are needed, and int8 has 127"):
            to_int8("up", 128 * ones(2, 1), ones(1))

    @given(weights=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=6, max_size=6))
    def test_weights_are_within_127(self, weights: list[float]) -> None:
        steps, scales = quantize_weight("up", np.array(weights, np.float32).reshape(3, 2))
        assert np.abs(steps.astype(int)).max() <= 127
        assert (scales > 0).all()

    def test_a_layer_without_a_range(self) -> None:
        linear = Linear(ones(HIDDEN, 8), ones(8))
        with pytest.raises(QuantizationError, match=r"layer_0\.up has no range"):
            Int8("static", {}, "gelu").add_linear(Nodes(), "layer_0.up", linear, "vectors")

    def test_a_static_range_that_is_not_finite(self) -> None:
        linear = Linear(ones(HIDDEN, 8), ones(8))
        endless = Range(-ones(HIDDEN), np.full(HIDDEN, np.inf, np.float32))
        with pytest.raises(QuantizationError):
            Int8("static", {"layer_0.up": endless}, "gelu").add_linear(
                Nodes(), "layer_0.up", linear, "vectors"
            )

    def test_a_layer_that_reads_zeros(self) -> None:
        """The scales are positive nevertheless."""
        linear, zeros = Linear(ones(HIDDEN, 8), ones(8)), np.zeros(HIDDEN, np.float32)
        nodes = Nodes()
        arithmetic = Int8("static", {"layer_0.up": Range(zeros, zeros)}, "gelu")
        arithmetic.add_linear(nodes, "layer_0.up", linear, "vectors")
        scales = [name for name in nodes.initializers if "scal" in name]
        assert len(scales) == 2
        for name in scales:
            assert (numpy_helper.to_array(nodes.initializers[name]) > 0).all()

    def test_a_linear_layer_that_stayed_in_fp32(self, built: Built) -> None:
        quantized = onnx.load(quantize_graph(built, IDS, IDS, Quality()).graph)
        require_products(quantized, len(built.inputs))
        nodes = quantized.graph.node
        nodes.remove(next(node for node in nodes if node.op_type == "MatMulIntegerToFloat"))
        with pytest.raises(QuantizationError, match="there are 7; expected 8"):
            require_products(quantized, len(built.inputs))

    def test_a_traced_graph_without_matrices(self, tmp_path: Path) -> None:
        nodes = Nodes()
        nodes.name_output(nodes.add("Cast", "input_ids", to=onnx.TensorProto.FLOAT))
        graph = write_graph(tmp_path, nodes.to_model(opset=OPSET, dimension=4))
        with pytest.raises(QuantizationError, match="no product of the traced graph"):
            quantize_traced(graph, "row", tmp_path / "row")


class TestLadder:
    def test_no_scheme(self, built: Built) -> None:
        with pytest.raises(QuantizationError, match="no scheme"):
            choose_scheme((), lambda _: built.graph, built.graph, IDS, Quality())

    def test_one_text(self, built: Built) -> None:
        with pytest.raises(QuantizationError, match="1 texts are too few"):
            choose_scheme(("row",), lambda _: built.graph, built.graph, IDS[:1], Quality())

    def test_embeddings_of_another_shape(self) -> None:
        with pytest.raises(QuantizationError, match=r"shape is \(3, 4\); expected \(3, 5\)"):
            measure_quality(ones(3, 4), ones(3, 5))

    @pytest.mark.parametrize("value", ODD)
    def test_a_reference_that_is_not_finite(self, value: float) -> None:
        expected = ones(3, 4)
        expected[1, 2] = value
        with pytest.raises(QuantizationError, match="embeddings in fp32"):
            measure_quality(ones(3, 4), expected)

    def test_the_stage_is_named_and_not_the_proof(self, built: Built, tmp_path: Path) -> None:
        graph = spoiled(built.graph, tmp_path, "layer_0.output_norm.bias", np.nan)
        with pytest.raises(QuantizationError, match="calibration"):
            quantize_graph(replace(built, graph=graph), IDS, IDS, Quality())
