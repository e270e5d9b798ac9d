"""Tests of local attention: exact at every length around its blocks, and the same in any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from embedrt.bundle.graph_rules import INPUT, OPERATORS
from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.nodes import Nodes
from embedrt_export.graph.windows import SMALLEST_BLOCK, add_window_attention, add_windows

Arrays = dict[str, NDArray[np.float32]]
SIZE = 8  # channels per head
HEADS = [(2, 2), (4, 2), (3, 1)]
REACHES = [0, 1, 5, 40]


def load_session(reach: int, heads: int, key_heads: int) -> ort.InferenceSession:
    nodes = Nodes()
    windows = add_windows(nodes, reach)
    attributes = {"q_num_heads": heads, "kv_num_heads": key_heads}
    result = add_window_attention(nodes, windows, "query", "key", "value", **attributes)
    nodes.nodes.append(helper.make_node("Identity", [result], ["attended"]))
    widths = {"query": heads, "key": key_heads, "value": key_heads, "attended": heads}
    query, key, value, attended = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "tokens", count * SIZE])
        for name, count in widths.items()
    )
    ids = helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["batch", "tokens"])
    weights = list(nodes.initializers.values())
    graph = helper.make_graph(nodes.nodes, "g", [ids, query, key, value], [attended], weights)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=11)
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in nodes.nodes} <= OPERATORS
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options)


def some_vectors(batch: int, tokens: int, heads: int, key_heads: int) -> Arrays:
    generator = np.random.default_rng(tokens)
    widths = {"query": heads, "key": key_heads, "value": key_heads}
    return {
        name: generator.standard_normal((batch, tokens, count * SIZE), np.float32)
        for name, count in widths.items()
    }


def run(session: ort.InferenceSession, vectors: Arrays) -> NDArray[np.float32]:
    ids = np.zeros(vectors["query"].shape[:2], np.int64)
    found: NDArray[np.float32] = session.run(None, {INPUT: ids, **vectors})[0]
    return found


def attend_exactly(vectors: Arrays, reach: int, heads: int, key_heads: int) -> NDArray[np.float64]:
    """Compute the attention by its definition, in float64."""
    batch, tokens, width = vectors["query"].shape

    def by_head(name: str, count: int) -> NDArray[np.float64]:
        split = vectors[name].astype(np.float64).reshape(batch, tokens, count, SIZE)
        return np.repeat(split.transpose(0, 2, 1, 3), heads // count, axis=1)

    scores = by_head("query", heads) @ by_head("key", key_heads).transpose(0, 1, 3, 2) / SIZE**0.5
    position = np.arange(tokens)
    scores[..., np.abs(position[:, None] - position) > reach] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    attended: NDArray[np.float64] = weights @ by_head("value", key_heads)
    return attended.transpose(0, 2, 1, 3).reshape(batch, tokens, width)


def lengths_of(reach: int) -> list[int]:
    """Return lengths around those at which texts are split into blocks and blocks are full."""
    block = max(reach, SMALLEST_BLOCK)
    edges = [block + 2 * reach, *(block * count for count in (1, 2, 3, 5))]
    return sorted({1, 2, 3, *(edge + step for edge in edges for step in (-1, 0, 1))})


@pytest.mark.parametrize(("heads", "key_heads"), HEADS)
@pytest.mark.parametrize("reach", REACHES)
def test_exact_at_every_length(reach: int, heads: int, key_heads: int) -> None:
    session = load_session(reach, heads, key_heads)
    for tokens in lengths_of(reach):
        vectors = some_vectors(2, tokens, heads, key_heads)
        expected = attend_exactly(vectors, reach, heads, key_heads)
        assert np.abs(run(session, vectors) - expected).max() <= 2e-6


@pytest.mark.parametrize("reach", REACHES)
def test_same_bytes_in_any_batch(reach: int) -> None:
    session = load_session(reach, 4, 2)
    for tokens in lengths_of(reach):
        for batch in (2, 3, 7):
            vectors = some_vectors(batch, tokens, 4, 2)
            together = run(session, vectors)
            for row in range(batch):
                alone = {name: array[row : row + 1] for name, array in vectors.items()}
                assert run(session, alone).tobytes() == together[row : row + 1].tobytes()


def test_only_scores_within_windows_are_computed(tmp_path: Path) -> None:
    """No operator returns more than 30 MB; all pairs of 20,000 tokens would need 1.6 GB."""
    reach, tokens = 40, 20_000
    nodes = Nodes()
    windows = add_windows(nodes, reach)
    nodes.nodes.append(helper.make_node("Identity", [windows.bias], ["bias"]))
    ids = helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["batch", "tokens"])
    bias = helper.make_tensor_value_info("bias", TensorProto.FLOAT, [None] * 4)
    graph = helper.make_graph(nodes.nodes, "g", [ids], [bias], list(nodes.initializers.values()))
    file = tmp_path / "bias.onnx"
    opset = helper.make_opsetid("", OPSET)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=11), file)
    found = ort.InferenceSession(str(file)).run(None, {INPUT: np.zeros((1, tokens), np.int64)})[0]
    assert found.size == tokens * 3 * reach
