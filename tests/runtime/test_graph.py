"""Tests of the static check of a graph file, before ONNX Runtime loads it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedrt import Bundle, Embedder
from embedrt.bundle.graph_rules import check_graph
from embedrt.bundle.protobuf import Messages, Span, read_fields
from embedrt.bundle.reader import GRAPH
from embedrt.bundle.weights import WEIGHTS
from embedrt.engine.session import Session
from embedrt.errors import BundleCorruptError, BundleError, BundleFormatError
from tiny_bundle import (
    FLOAT,
    INT64,
    WORDS,
    Field,
    make_tiny,
    message,
    model,
    node,
    tensor,
    tiny_graph,
    value,
    varint,
)

FIXED64, FIXED32 = 1, 5
TABLE = np.eye(WORDS, dtype=np.float32)
ROWS = tensor("rows", TABLE)


def identity(*extra: Field) -> Field:
    return (1, node("Identity", ["input_ids"], "embedding", *extra))


def refusal(folder: Path, content: bytes) -> str:
    """Return what the check reports about a graph; assert the form of the message."""
    (folder / GRAPH).write_bytes(content)
    with pytest.raises(BundleFormatError) as caught:
        check_graph(folder / GRAPH)
    text = str(caught.value)
    start, again = f"{folder / GRAPH}: ", "; copy or export the bundle again"
    assert text.startswith(start)
    assert text.endswith(again)
    return text.removeprefix(start).removesuffix(again)


def load(file: Path) -> None:
    """Check and load a graph. ONNX Runtime refuses files that end between two fields."""
    check_graph(file, (file.parent / WEIGHTS).stat().st_size)
    Session(file)


def survives(file: Path, content: bytes) -> bool:
    """Whether the check accepts a graph. Only a BundleError counts as a refusal."""
    file.write_bytes(content)
    try:
        check_graph(file)
    except BundleError:
        return False
    return True


def test_real_and_tiny_graphs_are_accepted(minilm: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(minilm)
    check_graph(bundle.graph, bundle.weights_size)
    assert survives(tmp_path / GRAPH, tiny_graph(TABLE))
    assert survives(tmp_path / GRAPH, model(identity((7, "ai.onnx"))))


def test_messages_are_read_once(minilm: Path) -> None:
    content = Bundle.open(minilm).graph.read_bytes()
    file, whole = Messages(content), Span(0, len(content))
    found = file.fields(whole)
    assert found == list(read_fields(content, whole))
    assert file.fields(whole) is found
    with pytest.raises(ValueError, match="a field ends at byte"):
        file.fields(Span(0, len(content) - 1))


def test_messages_of_many_fields_are_not_kept() -> None:
    """A byte of a crafted file would take a hundred bytes of memory."""
    content = b"\x0a\x00" * 99_999
    file, most, rest = Messages(content), Span(0, len(content)), Span(0, 2)
    kept = file.fields(most)
    again = Span(2, len(content))
    assert len(file.fields(again)) == 99_998
    assert file.fields(most) is kept
    assert file.fields(again) is not file.fields(again)
    assert file.fields(rest) is not file.fields(rest)


@pytest.mark.parametrize("operator", ["Loop", "If", "RandomNormal", "Unheard", "StringConcat", ""])
def test_operator_outside_the_list(tmp_path: Path, operator: str) -> None:
    text = refusal(tmp_path, model(identity(), (1, node(operator, ["a"], "b"))))
    assert text == f"operators outside the format's list: [{operator!r}]"


def test_foreign_domain(tmp_path: Path) -> None:
    foreign = node("Gelu", ["a"], "b", (7, "com.microsoft"))
    assert "outside the format's list: ['com.microsoft.Gelu']" in refusal(
        tmp_path, model(identity(), (1, foreign))
    )


def test_every_unknown_operator_is_named_once(tmp_path: Path) -> None:
    nodes: list[Field] = [(1, node(name, ["a"], "b")) for name in ("Loop", "Scan", "Loop")]
    assert refusal(tmp_path, model(*nodes)).endswith("list: ['Loop', 'Scan']")


@pytest.mark.parametrize("field", [6, 11])
def test_subgraph(tmp_path: Path, field: int) -> None:
    attribute = message((1, "body"), (field, message((2, "inner"))))
    assert refusal(tmp_path, model(identity((5, attribute)))).endswith("a subgraph in 'Identity'")


def test_functions(tmp_path: Path) -> None:
    function = message((1, "Identity"), (10, ""))
    text = refusal(tmp_path, model(identity(), extra=((25, function),)))
    assert text.endswith("it defines functions of its own")


@pytest.mark.parametrize(
    "external",
    [(14, 1), (13, message((1, "location"), (2, "/etc/passwd")))],
    ids=["where", "entry"],
)
@pytest.mark.parametrize("attribute", [None, 5, 10])
def test_external_data(tmp_path: Path, external: Field, attribute: int | None) -> None:
    outside = tensor("rows", TABLE, external)
    graph = (
        model(identity(), (5, outside))
        if attribute is None
        else model(identity((5, message((1, "value"), (attribute, outside)))))
    )
    assert refusal(tmp_path, graph).endswith("a tensor whose data lies in another file")


def test_sparse_tensors(tmp_path: Path) -> None:
    sparse = message((1, ROWS), (2, ROWS))
    assert refusal(tmp_path, model(identity(), (15, sparse))).endswith("a sparse tensor")
    for field in (22, 23):
        attribute = message((1, "sparse_value"), (field, sparse))
        text = refusal(tmp_path, model(identity((5, attribute))))
        assert text.endswith("a sparse tensor in 'Identity'")


def test_inputs_and_outputs_beyond_the_contract(tmp_path: Path) -> None:
    mask: Field = (11, value("attention_mask", INT64, "batch", "sequence"))
    text = refusal(tmp_path, model(identity(), mask))
    assert text.endswith("inputs are ['attention_mask', 'input_ids']; expected ['input_ids']")
    tokens: Field = (12, value("tokens", FLOAT, "batch", "sequence"))
    text = refusal(tmp_path, model(identity(), tokens))
    assert text.endswith("outputs are ['tokens', 'embedding']; expected ['embedding']")


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = refusal(tmp_path, message((7, message((1, node("Loop", [], "b"))))))
    assert text.count(";") == 4
    for part in ("Loop", "inputs are []", "outputs are []"):
        assert part in text


def test_a_long_name_does_not_flood_the_error(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    nodes: list[Field] = [(1, node(f"{long}{i}", [], "b")) for i in range(20)]
    names: list[Field] = [(11, value(long, FLOAT)), (12, value(long, FLOAT))]
    assert len(refusal(tmp_path, model(*nodes, *names))) < 500


def test_each_problem_is_reported_once_up_to_a_limit(tmp_path: Path) -> None:
    outside = tensor("rows", TABLE, (14, 1))
    tensors: list[Field] = [(5, outside)] * 50
    assert refusal(tmp_path, model(identity(), *tensors)).count("another file") == 1
    body = (5, message((1, "body"), (6, b"")))
    nodes: list[Field] = [(1, node(f"Unheard{i}", [], "b", body)) for i in range(50)]
    assert refusal(tmp_path, model(identity(), *nodes)).count(";") == 9


def test_too_many_fields(tmp_path: Path) -> None:
    """Storing such a list would take a hundred times its bytes."""
    empty = message((3, ""))
    assert survives(tmp_path / GRAPH, model(identity()) + empty * 99_000)
    for graph in (
        model(identity()) + empty * 100_001,
        model((1, node("Identity", ["input_ids"], "embedding") + empty * 100_001)),
    ):
        (tmp_path / GRAPH).write_bytes(graph)
        with pytest.raises(BundleCorruptError, match=r"\(more than 100000 fields in one message\)"):
            check_graph(tmp_path / GRAPH)


@pytest.mark.parametrize("missing", [True, False])
def test_a_graph_that_cannot_be_read(tmp_path: Path, *, missing: bool) -> None:
    if not missing:
        (tmp_path / GRAPH).mkdir()
    with pytest.raises(BundleCorruptError, match=r"model\.onnx cannot be read .* copy or export"):
        check_graph(tmp_path / GRAPH)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"no graph at all", "byte"),
        (message((8, "")), "0 graphs"),
        (model(identity()) * 2, "2 graphs"),
        (b"\x80" * 20, "64 bits"),
        (b"\x3b\x3c", "wire type 3"),
        (message((7, message((1, message((4, b"\xff")))))), "utf-8"),
    ],
)
def test_invalid_graphs(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / GRAPH).write_bytes(content)
    with pytest.raises(
        BundleCorruptError, match=rf"is not an ONNX graph \(.*{why}.*\); copy or export"
    ):
        check_graph(tmp_path / GRAPH)


@pytest.mark.parametrize(("kind", "name"), [(FIXED64, b"Identity"), (FIXED32, b"Gelu")])
def test_operator_hidden_behind_a_field_that_protobuf_skips(
    tmp_path: Path, kind: int, name: bytes
) -> None:
    hidden = node("RandomNormal", [], "embedding") + varint(4 << 3 | kind) + name
    assert "list: ['RandomNormal']" in refusal(tmp_path, model((1, hidden)))


def test_operator_hidden_behind_a_key_that_protobuf_shortens(tmp_path: Path) -> None:
    long_key = varint((4 << 3 | 2) + (1 << 32))
    hidden = node("Identity", [], "embedding") + long_key + varint(4) + b"Loop"
    assert not survives(tmp_path / GRAPH, model((1, hidden)))


def test_every_truncation_of_a_small_graph_is_refused(tmp_path: Path) -> None:
    content = tiny_graph(TABLE)
    for stop in range(len(content)):
        assert not survives(tmp_path / GRAPH, content[:stop]), stop


def test_truncations_of_the_real_graph_are_refused(minilm: Path, tmp_path: Path) -> None:
    size = (minilm / GRAPH).stat().st_size
    cut = tmp_path / GRAPH
    for name in (GRAPH, WEIGHTS):
        shutil.copyfile(minilm / name, tmp_path / name)
    load(cut)
    stops = {*range(size - 20, size), *np.linspace(0, size - 1, 50, dtype=int).tolist()}
    with cut.open("r+b") as file:
        for stop in sorted(stops, reverse=True):
            file.truncate(stop)
            with pytest.raises(BundleCorruptError):
                load(cut)


@given(st.binary(max_size=200))
def test_hostile_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    survives(tmp_path_factory.getbasetemp() / GRAPH, content)


def test_flipped_bytes_load_or_raise_our_errors(tmp_path: Path) -> None:
    flips = random.Random(20)
    loaded = 0
    bundle = make_tiny(tmp_path / "bundle")
    content = (bundle / GRAPH).read_bytes()
    for _ in range(300):
        altered = bytearray(content)
        for _ in range(flips.choice([1, 2, 5])):
            altered[flips.randrange(len(altered))] = flips.randrange(256)
        (bundle / GRAPH).write_bytes(altered)
        try:
            Embedder.load(bundle).close()
        except BundleError:
            continue
        loaded += 1
    assert 0 < loaded < 300
