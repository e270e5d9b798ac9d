"""Bundles that ended the process that loaded or ran them, as the fuzzer or a reader found them."""

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
    """The tiny graph after nodes whose results it does not use."""
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
    """An attribute of one integer; negative ones as protobuf has them."""
    return 5, message((1, name), (3, number % (1 << 64)), (20, 2))


def attention(*heads: Field) -> bytes:
    """Of the rows of a text among themselves."""
    return node("Attention", ["rows", "rows", "rows"], "new", *heads)


# What no look at the outline finds: what the numbers are is known when they are computed.
DIVISION = with_nodes(node("Div", ["smallest", "minus"], "new"))

# By the words that check_graph has for them.
GRAPHS = {
    "q_num_heads of 'Attention' is not at least 1": [
        attention(attribute("q_num_heads", 0), attribute("kv_num_heads", 2)),
        attention((5, message((1, "q_num_heads"), (20, 2))), attribute("kv_num_heads", 2)),
        attention(attribute("q_num_heads", -(1 << 32)), attribute("kv_num_heads", 2)),
    ],
    "kv_num_heads of 'Attention' is not at least 1": [
        attention(attribute("q_num_heads", 2), attribute("kv_num_heads", 0)),
    ],
    "batch_dims of 'GatherND' is not at least 0": [
        node("GatherND", ["table", "axes"], "new", attribute("batch_dims", -100)),
        node("GatherND", ["table", "axes"], "new", attribute("batch_dims", SMALLEST)),
    ],
    "an input is left out of Max": [node("Max", ["table", ""], "new")],
    "an input is left out of Min": [node("Min", ["table", "", "table"], "new")],
}


def write_crashing_bundle(folder: Path, _number: int = 0) -> str:
    """Write a bundle that dies of SIGFPE when it is run."""
    make_tiny(folder / "bundle", graph=DIVISION)
    for file in (folder / "bundle").iterdir():
        file.rename(folder / file.name)
    return "the smallest number by -1"
