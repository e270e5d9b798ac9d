"""Tests of layers whose input has rows of a multiple of 4 KiB, which get a few more columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from comparison import assert_agrees, export_small
from embedrt import Embedder
from embedrt_export import export_model
from embedrt_export.encoder import FloatArray, Linear
from embedrt_export.graph.float32 import Float32
from embedrt_export.graph.nodes import Nodes
from model_folders import HIDDEN

SAME_SET = 1024  # floats
TEXTS = ["", "a", "the lazy dog", "How many people live in London?", "лиса 敏捷 😀 " * 20]


@pytest.mark.parametrize("rows", [1, 13])
@pytest.mark.parametrize("inputs", [1000, 1024, 3072])
def test_a_product_of_long_rows_is_the_same(inputs: int, rows: int) -> None:
    generator = np.random.default_rng(inputs)
    # Of small integers, so that no order of the sums rounds.
    vectors = generator.integers(-8, 9, (rows, inputs)).astype(np.float32)
    weight = generator.integers(-8, 9, (inputs, 40)).astype(np.float32)
    bias = generator.integers(-8, 9, 40).astype(np.float32)
    nodes, arithmetic = Nodes(), Float32()
    product = arithmetic.add_linear(nodes, "layer", Linear(weight, bias), "vectors")
    assert arithmetic.inputs == {"layer": "vectors"}
    stored = nodes.initializers["layer.weight"].dims[0]
    assert stored % SAME_SET
    assert (stored == inputs) == bool(inputs % SAME_SET)
    np.testing.assert_array_equal(_run(nodes, product, vectors), vectors @ weight + bias)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {"intermediate_size": 3072}),
        ("qwen3", {"hidden_size": 1024, "intermediate_size": 2048}),
        pytest.param("albert", {"hidden_size": 1024}, marks=pytest.mark.slow),
        pytest.param("modernbert", {"intermediate_size": 1024}, marks=pytest.mark.slow),
        pytest.param("t5", {"d_model": 1024, "d_ff": 4096}, marks=pytest.mark.slow),
    ],
)
def test_a_model_of_long_rows(tmp_path: Path, family: str, changes: dict[str, int]) -> None:
    pair = export_small(tmp_path, family, config=changes)
    assert _inputs_of_products(pair.bundle) & {1032, 2056, 3080, 4104}
    assert all(inputs % SAME_SET for inputs in _inputs_of_products(pair.bundle))
    assert_agrees(pair, TEXTS)
    with Embedder.load(pair.bundle, threads=2) as embedder:
        texts = [" ".join(["fox", "лиса"] * count) for count in (0, 1, 2, 9, 25, 30)] * 3
        alone = [embedder.encode(text).tobytes() for text in texts]
        assert [vector.tobytes() for vector in embedder.encode(texts)] == alone


def test_int8_has_no_more_columns(tmp_path: Path) -> None:
    pair = export_small(tmp_path, "bert", config={"intermediate_size": 3072})
    bundle = export_model(str(pair.folder), output=tmp_path / "int8", precision="int8")
    assert _inputs_of_products(bundle, "MatMulIntegerToFloat") == {HIDDEN, 3072}


def _inputs_of_products(bundle: Path, operator: str = "Gemm") -> set[int]:
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    rows = {weight.name: weight.dims[0] for weight in graph.initializer if weight.dims}
    return {rows[node.input[1]] for node in graph.node if node.op_type == operator}


def _run(nodes: Nodes, output: str, vectors: FloatArray) -> FloatArray:
    graph = helper.make_graph(
        nodes.nodes,
        "product",
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, vectors.shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [len(vectors), 40])],
        list(nodes.initializers.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: FloatArray
    (result,) = session.run([output], {"vectors": vectors})
    return result
