"""Graphs that crashed the process when they were loaded or run, found by fuzzing or review."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tiny_bundle import (
    WORDS,
    Field,
    keepdims,
    make_tiny,
    message,
    model,
    node,
    tensor,
)

TABLE = np.eye(WORDS, dtype=np.float32)
SMALLEST = np.iinfo(np.int64).min


def with_nodes(*nodes: bytes, tensors: tuple[Field, ...] = ()) -> bytes:
    """Return the tiny graph with additional nodes whose results are unused."""
    numbers = {"smallest": [SMALLEST], "minus": [-1], "axes": [1]}
    older, newer = (message((8, message((1, ""), (2, opset)))) for opset in (17, 23))
    graph = model(
        *((1, content) for content in nodes),
        (1, node("Gather", ["table", "input_ids"], "rows")),
        (1, node("ReduceSum", ["rows", "axes"], "embedding", (5, keepdims(0)))),
        (5, tensor("table", TABLE)),
        *((5, tensor(name, np.array(array))) for name, array in numbers.items()),
        *tensors,
    )
    return graph.replace(older, newer)


def attribute(name: str, number: int) -> Field:
    """Return an integer attribute; negative numbers are encoded as in protobuf."""
    return 5, message((1, name), (3, number % (1 << 64)), (20, 2))


def attention(*heads: Field) -> bytes:
    """Return a node for self-attention over the rows of a text."""
    return node("Attention", ["rows", "rows", "rows"], "new", *heads)


def grouped(*heads: Field) -> bytes:
    """Return a node for causal attention, with its numbers of heads and without its lengths."""
    return node(
        "GroupQueryAttention",
        ["rows", "rows", "rows"],
        "new",
        (7, "com.microsoft"),
        *heads,
    )


# Static checks cannot detect this graph, because the operands are known only at run time.
DIVISION = with_nodes(node("Div", ["smallest", "minus"], "new"))

# Keys are the messages of check_graph.
GRAPHS = {
    "q_num_heads of 'Attention' is not at least 1": [
        attention(attribute("q_num_heads", 0), attribute("kv_num_heads", 2)),
        attention((5, message((1, "q_num_heads"), (20, 2))), attribute("kv_num_heads", 2)),
        attention(attribute("q_num_heads", -(1 << 32)), attribute("kv_num_heads", 2)),
    ],
    "kv_num_heads of 'Attention' is not at least 1": [
        attention(attribute("q_num_heads", 2), attribute("kv_num_heads", 0)),
    ],
    "num_heads of 'com.microsof...ueryAttention' is not at least 1": [
        grouped(attribute("num_heads", 1 << 32), attribute("kv_num_heads", 2)),
        grouped(attribute("num_heads", 0), attribute("kv_num_heads", 2)),
    ],
    "batch_dims of 'GatherND' is not at least 0": [
        node("GatherND", ["table", "axes"], "new", attribute("batch_dims", -100)),
        node("GatherND", ["table", "axes"], "new", attribute("batch_dims", SMALLEST)),
    ],
    "an input is left out of Max": [node("Max", ["table", ""], "new")],
    "an input is left out of Min": [node("Min", ["table", "", "table"], "new")],
}


def write_crashing_bundle(folder: Path, _number: int = 0) -> str:
    """Write a bundle whose graph raises SIGFPE when it is run."""
    make_tiny(folder / "bundle", graph=DIVISION)
    for file in (folder / "bundle").iterdir():
        file.rename(folder / file.name)
    return "the smallest number by -1"
