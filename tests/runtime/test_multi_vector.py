"""`MultiVectorEncoder` on bundles whose results are known by hand; parity is in tests/export."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from embedrt import Bundle, Embedder, MultiVectorEncoder
from embedrt.bundle.late_interaction import LateInteraction
from embedrt.bundle.manifest import ATTENTION_MASK, INPUTS, Manifest
from embedrt.bundle.reader import MANIFEST
from embedrt.cli import main
from embedrt.errors import BundleCorruptError, BundleFormatError, EmbedrtError, OverlongTextError
from embedrt.tasks import load_any
from embedrt.verify import check_probes
from tiny_bundle import WORDS, make_tiny, tiny_manifest
from tiny_late import ATTENDED, HIDDEN, LATE, late_graph, make_tiny_late

PROMPTS = {"query": "w3 ", "document": "w4 "}


def words(vectors: Any) -> list[int]:
    """The word of each token's vector; -1 for one that is hidden."""
    return [int(row.argmax()) if row.any() else -1 for row in vectors]


@pytest.fixture(scope="module")
def load(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., MultiVectorEncoder]]:
    """Return a function that makes and loads a bundle."""
    with ExitStack() as stack:

        def make(late: LateInteraction = LATE, **changes: Any) -> MultiVectorEncoder:
            folder = tmp_path_factory.mktemp("late") / "tiny"
            bundle = make_tiny_late(folder, late, **changes)
            return stack.enter_context(MultiVectorEncoder.load(bundle))

        yield make


class TestVectors:
    def test_one_array_a_text(self, load: Callable[..., MultiVectorEncoder]) -> None:
        found = load().encode(["w2 w1 w2", "", "w9"])
        assert [array.shape for array in found] == [(3, WORDS), (0, WORDS), (1, WORDS)]
        assert {array.dtype for array in found} == {np.dtype(np.float32)}
        assert [words(array) for array in found] == [[2, 1, 2], [], [9]]
        assert words(load().encode("w5 w6")) == [5, 6]
        assert load().encode([]) == []

    def test_queries_and_documents_are_cut_to_their_own_lengths(
        self, load: Callable[..., MultiVectorEncoder]
    ) -> None:
        encoder, text = load(), "w1 w2 w3 w4 w5 w6 w7 w8 w9"
        assert len(encoder.encode(text)) == encoder.max_tokens == 8
        assert len(encoder.encode_query(text)) == encoder.query_tokens == 4
        assert len(encoder.encode_document(text)) == encoder.document_tokens == 6

    @pytest.mark.parametrize(("expansion", "shown"), [(ATTENDED, 9), (HIDDEN, -1)])
    def test_queries_are_lengthened(
        self, load: Callable[..., MultiVectorEncoder], expansion: Any, shown: int
    ) -> None:
        encoder = load(replace(LATE, expansion=expansion, query_tokens=6))
        texts = ["w1", "", "w9 w9 w9 w9", "w1 w2 w3 w4 w5", "w1 w9"]
        expected = [
            [1, *[shown] * 3],
            [shown] * 4,
            [9] * 4,
            [1, 2, 3, 4, 5],
            [1, 9, shown, shown],
        ]
        assert [words(each) for each in encoder.encode_query(texts)] == expected
        assert [words(each) for each in encoder.encode_document(texts[:2])] == [[1], []]
        assert encoder.inputs("w1", "query").tolist() == [1, 9, 9, 9]
        assert encoder.inputs("w1").tolist() == [1]

    @pytest.mark.parametrize("tasks", [("document",), ("query",), ("query", "document"), ()])
    def test_tokens_are_left_out(self, load: Callable[..., MultiVectorEncoder], tasks: Any) -> None:
        late = replace(LATE, expansion=ATTENDED, skipped=(2, 9), skipped_in=tasks)
        encoder, text = load(late), "w2 w1 w9"
        query, document = ("query" in tasks), ("document" in tasks)
        assert words(encoder.encode_query(text)) == ([1] if query else [2, 1, 9, 9])
        assert words(encoder.encode_document(text)) == ([1] if document else [2, 1, 9])
        assert words(encoder.encode(text)) == words(encoder.encode_document(text))
        assert encoder.encode_document("w2 w2").shape == (0 if document else 2, WORDS)
        assert [each.shape for each in encoder.encode_document(["", "w1"])] == [
            (0, WORDS),
            (1, WORDS),
        ]

    def test_prompts(self, load: Callable[..., MultiVectorEncoder]) -> None:
        encoder = load(prompts=PROMPTS, default_prompt_name="document")
        assert words(encoder.encode("w1")) == [4, 1]
        assert words(encoder.encode_query("w1")) == [3, 1]
        assert words(encoder.encode_document("w1")) == [4, 1]
        assert words(encoder.encode_query("w1", prompt="w7 ")) == [7, 1]
        assert words(encoder.encode("w1", prompt_name="query", task="query")) == [3, 1]

    def test_normalization(self, load: Callable[..., MultiVectorEncoder]) -> None:
        encoder = load(normalized=False)
        assert (
            encoder.encode("w1", normalize_embeddings=True).tolist() == np.eye(WORDS)[[1]].tolist()
        )


def test_other_ways_give_the_same(load: Callable[..., MultiVectorEncoder]) -> None:
    encoder = load(replace(LATE, expansion=HIDDEN, skipped=(2,)), prompts=PROMPTS)
    texts = [f"w{i % 10} w{i % 7} w{i % 3}" for i in range(50)]
    for task in (None, "query", "document"):
        expected = encoder.encode(texts, task=task)
        (streamed,) = encoder.embed_stream(iter(texts), task=task)
        awaited = asyncio.run(encoder.aencode(texts, task=task))
        for found in (streamed, awaited):
            assert [each.tobytes() for each in found] == [each.tobytes() for each in expected]
    queries = asyncio.run(encoder.aencode_query(texts))
    assert [each.tolist() for each in queries] == [
        each.tolist() for each in encoder.encode_query(texts)
    ]
    documents = asyncio.run(encoder.aencode_document(texts))
    again: MultiVectorEncoder = pickle.loads(pickle.dumps(encoder))
    with again:
        assert [each.tolist() for each in documents] == [
            each.tolist() for each in again.encode_document(texts)
        ]


@pytest.mark.parametrize("expansion", [None, ATTENDED, HIDDEN])
def test_a_call_may_cut_on_the_other_side(
    load: Callable[..., MultiVectorEncoder], expansion: Any
) -> None:
    encoder = load(replace(LATE, expansion=expansion))

    def of(text: str, **options: Any) -> list[int]:
        return words(asyncio.run(encoder.aembed(text, truncation_side="left", **options)).vectors)

    text = "w1 w2 w3 w4 w5 w6 w7 w8 w9"
    assert of(text) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert of(text, task="query") == [6, 7, 8, 9]
    assert of("w1", task="query") == words(encoder.encode_query("w1"))
    with pytest.raises(OverlongTextError):
        of(text, overlong="error")


def test_the_cache_tells_queries_from_documents(tmp_path: Path) -> None:
    late = replace(LATE, expansion=ATTENDED, skipped=(9,))
    with MultiVectorEncoder.load(make_tiny_late(tmp_path / "b", late), cache_mb=1) as encoder:
        for _ in range(2):
            assert words(encoder.encode_query("w1")) == [1, 9, 9, 9]
            assert words(encoder.encode_document("w1 w9 w9 w9")) == [1]
        assert encoder.stats().cache_hits > 0


def test_scores(load: Callable[..., MultiVectorEncoder]) -> None:
    encoder, mean = load(), load(replace(LATE, score="meanmaxsim"))
    queries, documents = ["w1 w2", "w3"], ["w2 w1 w5", "w3 w3", ""]
    for model, scale in ((encoder, [[1], [1]]), (mean, [[2], [1]])):
        asked, found = model.encode_query(queries), model.encode_document(documents)
        expected = np.array([[2, 0, -1e9], [0, 1, -1e9]]) / scale
        assert np.allclose(model.similarity(asked, found), expected)
        assert np.allclose(model.similarity_pairwise(asked, found[:2]), expected.diagonal()[:2])
    assert (encoder.similarity_fn_name, mean.similarity_fn_name) == ("maxsim", "meanmaxsim")
    assert encoder.get_embedding_dimension() == WORDS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "other"}, "task='other'; expected 'query', 'document' or None"),
        ({"convert_to_tensor": True}, "unexpected keyword argument 'convert_to_tensor'"),
        ({"output_value": None}, "output_value=None cannot be honored"),
        ({"token_pooling": object()}, "a bundle gives one vector per token"),
        ({"prompt_name": "other"}, "prompt_name='other'"),
    ],
)
def test_options_are_refused(
    load: Callable[..., MultiVectorEncoder], options: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        load().encode("w1", **options)


def test_inputs_are_of_a_known_kind(load: Callable[..., MultiVectorEncoder]) -> None:
    encoder, bad = load(LATE), cast(Any, "summary")
    assert encoder.inputs("w1", "query").tolist() == [1]
    with pytest.raises(ValueError, match=r"^task='summary'; expected 'query', 'document' or None$"):
        encoder.inputs("w1", bad)
    with pytest.raises(TypeError, match=r"^text is None; every text must be a str$"):
        encoder.inputs(cast(Any, None))


def test_long_texts_can_be_refused(tmp_path: Path) -> None:
    late = replace(LATE, expansion=HIDDEN)
    with MultiVectorEncoder.load(make_tiny_late(tmp_path / "b", late), overlong="error") as encoder:
        assert len(encoder.encode_query("w1 w2 w3 w4")) == 4
        assert len(encoder.encode_document("w1 w2 w3 w4 w5")) == 5
        with pytest.raises(OverlongTextError, match="5 tokens, and this model takes 4 tokens"):
            encoder.encode_query("w1 w2 w3 w4 w5")


def test_classes_name_each_other(tmp_path: Path) -> None:
    bundle = make_tiny_late(tmp_path / "late")
    with pytest.raises(BundleFormatError, match=r"late-interaction.*use MultiVectorEncoder\.load"):
        Embedder.load(bundle)
    with pytest.raises(BundleFormatError, match=r"use Embedder\.load"):
        MultiVectorEncoder.load(make_tiny(tmp_path / "dense"))
    with load_any(Bundle.open(bundle)) as loaded:
        assert isinstance(loaded, MultiVectorEncoder)


def test_a_graph_of_one_vector_a_text_is_refused(tmp_path: Path) -> None:
    bundle = make_tiny_late(tmp_path / "b", graph=late_graph(masked=False, by_token=False))
    with pytest.raises(EmbedrtError):
        MultiVectorEncoder.load(bundle)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0.0, 1] + [0] * 8, [0, 0, 1] + [0] * 7], None),
        ([[0.0, 1] + [0] * 8, [0, 0, 0.5] + [0] * 7], "vectors that differ by 5.0e-01"),
        ([[0.0, 1] + [0] * 8], r"of shape \(2, 10\) for its probes; expected \(1, 10\)"),
        ([], "holds no texts with the vectors of their tokens"),
        ([[1.0, 2]], "holds no texts with the vectors of their tokens"),
        (5, "holds no texts with the vectors of their tokens"),
    ],
)
def test_probes(tmp_path: Path, rows: object, message: str | None) -> None:
    probes = [{"task_and_text": ["document", "w1 w2"], "token_embeddings": rows}]
    bundle = Bundle.open(make_tiny_late(tmp_path / "b", probes=probes))
    with MultiVectorEncoder(bundle) as encoder:
        if message is None:
            assert check_probes(encoder, bundle) == 0
            return
        with pytest.raises(BundleCorruptError, match=message):
            check_probes(encoder, bundle)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = replace(LATE, expansion=HIDDEN, skipped=(3, 4))
    bundle = str(make_tiny_late(tmp_path / "b", late))
    main(["info", bundle])
    shown = capsys.readouterr().out
    assert "one per token, 4 of a query, 6 of a document, queries expanded to 4, 2 tokens" in shown
    assert "similarity  maxsim" in shown
    assert "\nengine      ONNX Runtime " in shown
    main(["verify", bundle])
    assert "vectors on this machine: largest difference 0.0e+00" in capsys.readouterr().out
    (tmp_path / "texts.txt").write_text("w1\n", encoding="utf-8")
    assert main(["encode", bundle, str(tmp_path / "texts.txt")]) != 0
    assert "use MultiVectorEncoder.load" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"late_interaction": None}, "late_interaction does not fit task 'late-interaction'"),
        ({"late_interaction": {"query_tokens": 0}}, r"query_tokens is 0; expected 1 to 1048576"),
        ({"late_interaction": {"document_tokens": 1 << 21}}, "document_tokens is 2097152"),
        ({"late_interaction": {"score": "dot"}}, "late_interaction.score is 'dot'"),
        ({"late_interaction": {"skipped": [5, -1]}}, r"skipped\[1\] is -1; expected 0 to 1048575"),
        ({"late_interaction": {"skipped_in": ["other"]}}, "expected one of"),
        (
            {"late_interaction": {"expansion": None}},
            "inputs must have attention_mask if and only if no token",
        ),
        (
            {"late_interaction": {"expansion": {"length": 0, "token": 9, "attended": False}}},
            r"expansion\.length is 0",
        ),
        (
            {"late_interaction": {"expansion": {"length": 4, "token": -9, "attended": False}}},
            r"expansion\.token is -9",
        ),
        ({"inputs": []}, "inputs does not fit task 'late-interaction'"),
        ({"outputs": []}, "outputs does not fit task 'late-interaction'"),
    ],
)
def test_invalid_manifests(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    bundle = make_tiny_late(tmp_path / "b", replace(LATE, expansion=HIDDEN))
    manifest: Any = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    assert Manifest.from_json(json.dumps(manifest)).late_interaction is not None
    for name, value in changes.items():
        inside = isinstance(value, dict)
        manifest[name] = {**manifest[name], **value} if inside else value
    with pytest.raises(BundleFormatError, match=message):
        Manifest.from_json(json.dumps(manifest))


def test_other_tasks_have_no_such_field() -> None:
    plain = tiny_manifest().to_json()
    assert "late_interaction" not in plain
    late = replace(tiny_manifest(), late_interaction=LATE).to_json()
    with pytest.raises(BundleFormatError, match="late_interaction does not fit task 'embedding'"):
        Manifest.from_json(late)
    masked = replace(tiny_manifest(), inputs=(*INPUTS["embedding"], ATTENTION_MASK)).to_json()
    with pytest.raises(BundleFormatError, match="inputs does not fit task 'embedding'"):
        Manifest.from_json(masked)
