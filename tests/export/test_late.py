"""Late interaction models beside `sentence_transformers.MultiVectorEncoder` in torch."""

from __future__ import annotations

import shutil
import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
from numpy.typing import NDArray
from torch import nn

from comparison import texts_of_every_length
from embedrt import MultiVectorEncoder
from embedrt.bundle.quantization import ScoreQuantization
from embedrt.bundle.reader import CARD, GRAPH
from embedrt.cli import main
from embedrt.errors import ProofError, QuantizationError, UnsupportedModelError
from embedrt.max_sim import max_sim
from embedrt_export import export_model, prove_bundle
from embedrt_export.graph.weights import read_graph
from embedrt_export.int8.order import OrderQuality, kendall_tau, measure_max_sim
from embedrt_export.source.needed import missing_parts
from embedrt_export.source.settings import read_settings
from late_folders import WIDTH, make_late, make_pylate
from model_folders import change_json, write_json
from sharing import made_once

pytestmark = pytest.mark.skipif(
    not hasattr(sentence_transformers, "MultiVectorEncoder"),
    reason="sentence-transformers 5 has no late interaction models",
)

TOLERANCE = 2e-6
PUNCTUATION = tuple(string.punctuation)
PROMPTS = {"query": "[Q] ", "document": "[D] "}
TEXTS = [
    "",
    "a",
    "...",
    "How many people live in London?",
    "лиса, 敏捷! 😀 " * 20,
    "<mask> a [MASK]",
]
FIXED = {"strategy": "fixed", "length": 16}
KINDS: dict[str, dict[str, Any]] = {
    "fixed": {"family": "roberta", "expansion": FIXED, "skipped": PUNCTUATION, "prompts": PROMPTS},
    "min": {"family": "modernbert", "expansion": {"strategy": "min", "length": 5}},
    "attended": {
        "family": "xlm-roberta",
        "expansion": {**FIXED, "attend": True, "token": "</s>"},
        "skipped": [",", ".", "not a token"],
        "skipped_in": ["query", "document"],
        "similarity_fn_name": "meanmaxsim",
    },
    "decoder": {"family": "qwen3", "query_length": 12, "document_length": None},
    "pylate": {
        "family": "roberta",
        "settings": {
            "query_prefix": "[Q] ",
            "document_prefix": "[D] ",
            "query_length": 16,
            "document_length": 40,
            "attend_to_expansion_tokens": False,
            "prompts": {"query": "claim: "},
        },
    },
    "pylate-plain": {
        "family": "modernbert",
        "settings": {
            "query_prefix": "",
            "query_length": 12,
            "do_query_expansion": False,
            "skiplist_words": ["a"],
        },
    },
    "pylate-unmarked": {"family": "modernbert", "settings": {}},
    "pylate-marked": {
        "family": "bert",
        "settings": {
            "query_prefix": "[unused0]",
            "document_prefix": "[unused1] ",
            "model_type": None,
        },
    },
    "mpnet": {"family": "mpnet", "expansion": {"strategy": "min", "length": 9}, "query_length": 20},
    "raw": {
        "family": "electra",
        "normalized": False,
        "activation": nn.Tanh(),
        "document_length": 90,
        "expansion": FIXED,
    },
}
SLOW = ("pylate-plain", "pylate-unmarked", "pylate-marked", "decoder", "mpnet", "raw")
METHODS = ("encode", "encode_query", "encode_document")

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Both:
    """A bundle and its original, loaded."""

    encoder: MultiVectorEncoder
    model: Any
    folder: Path
    bundle: Path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Both]]:
    """Return a function from a kind's name to its bundle and the original, loaded."""
    with ExitStack() as stack:

        @cache
        def load(name: str) -> Both:
            def make_both(parent: Path) -> None:
                make: Any = make_pylate if "settings" in KINDS[name] else make_late
                make(parent / "model", **KINDS[name])
                export_model(str(parent / "model"), output=parent / "bundle")

            parent = made_once(tmp_path_factory, f"late-{name}", make_both)
            bundle, folder = parent / "bundle", parent / "model"
            encoder = stack.enter_context(MultiVectorEncoder.load(bundle, verify="sha256"))
            kinds: Any = sentence_transformers
            model = kinds.MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)
            return Both(encoder, model, folder, bundle)

        yield load


def alone(model: Any, texts: Sequence[str], method: str, **options: Any) -> list[Rows]:
    """Compute vectors with the original one text at a time, without padding."""
    return [getattr(model, method)(text, convert_to_numpy=True, **options) for text in texts]


def assert_agree(found: Sequence[Rows], expected: Sequence[Rows], *, relative: bool) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        scale = np.abs(other).max() if relative else 1.0
        assert np.abs(one - other).max(initial=0) <= TOLERANCE * scale


@pytest.mark.parametrize(
    "name",
    [name if name not in SLOW else pytest.param(name, marks=pytest.mark.slow) for name in KINDS],
)
def test_agrees_at_every_length_and_past_the_maximum(
    both: Callable[[str], Both], name: str
) -> None:
    pair = both(name)
    counted: Any = pair.encoder
    texts = list(texts_of_every_length(counted, 84).values())[::6] + TEXTS
    for method in METHODS:
        expected = alone(pair.model, texts, method)
        found = getattr(pair.encoder, method)(texts)
        assert_agree(found, expected, relative=name == "raw")
        assert {array.dtype for array in found} == {np.dtype(np.float32)}
    assert pair.encoder.dimension == WIDTH


@pytest.mark.parametrize("name", ["fixed", "attended"])
def test_scores_and_prompts(both: Callable[[str], Both], name: str) -> None:
    pair = both(name)
    encoder, model = pair.encoder, pair.model
    calls: list[dict[str, Any]] = [{}, {"prompt": "mine: "}, {"prompt_name": "document"}]
    for options in calls:
        queries = encoder.encode_query(TEXTS, **options)
        assert_agree(queries, alone(model, TEXTS, "encode_query", **options), relative=False)
    documents = encoder.encode_document(TEXTS)
    queries = encoder.encode_query(TEXTS)
    assert encoder.similarity_fn_name == model.similarity_fn_name
    for method in ("similarity", "similarity_pairwise"):
        expected = getattr(model, method)(queries, documents).numpy()
        assert np.allclose(getattr(encoder, method)(queries, documents), expected, atol=1e-5)
    empty = [np.empty((0, WIDTH), np.float32), documents[3]]
    expected = model.similarity(queries, empty, length_normalize=False).numpy()
    assert np.allclose(max_sim(queries, empty), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["fixed", "min", "attended"])
def test_the_same_bytes_in_any_batch(both: Callable[[str], Both], name: str) -> None:
    bundle = both(name).bundle
    texts = [" ".join([word] * count) for word in ("a", "city") for count in (1, 2, 7, 30, 62)]
    for method in METHODS[1:]:
        with MultiVectorEncoder.load(bundle, threads=1) as encoder:
            rows = [getattr(encoder, method)(text) for text in texts]
        for threads in (1, 2):
            with MultiVectorEncoder.load(bundle, threads=threads) as encoder:
                encode = getattr(encoder, method)
                for _ in range(6):  # after a few calls, all cores share one graph
                    assert encode(texts[4]).tobytes() == rows[4].tobytes()
                for one, row in zip(encode(texts * 3), rows * 3, strict=True):
                    assert one.tobytes() == row.tobytes()


def test_added_tokens_see_the_query_and_are_not_seen(both: Callable[[str], Both]) -> None:
    """A query's own tokens have the vectors of the same document, those that are added others."""
    encoder = both("fixed").encoder
    text = "the lazy dog"
    query = encoder.encode_query(text, prompt="")
    (count,) = {len(ids) for ids in encoder.tokenize(text)}
    assert 2 < count < len(query) == 16
    assert np.allclose(query[:count], encoder.encode(text, prompt=""), atol=1e-6)
    added = query[count:]
    assert (np.linalg.norm(added[1:] - added[:-1], axis=1) > 1e-3).all()  # each at its own place
    other = encoder.encode_query("a quick fox", prompt="")
    assert np.abs(other[-1] - query[-1]).max() > 1e-3


def test_only_hidden_tokens_need_a_mask(both: Callable[[str], Both]) -> None:
    inputs = {
        name: [value.name for value in read_graph(both(name).bundle / GRAPH).graph.input]
        for name in ("fixed", "min", "attended")
    }
    masked = ["input_ids", "attention_mask"]
    assert inputs == {
        "fixed": masked,
        "min": masked,
        "attended": ["input_ids"],
    }


def test_what_the_bundle_says(
    both: Callable[[str], Both], capsys: pytest.CaptureFixture[str]
) -> None:
    pair = both("fixed")
    card = (pair.bundle / CARD).read_text(encoding="utf-8")
    assert f"one per token, of {WIDTH} components, of length 1, fp32" in card
    assert "queries 16 tokens, shorter ones expanded to 16, documents 40" in card
    assert main(["verify", str(pair.bundle), "--against", str(pair.folder)]) == 0
    assert "same bytes alone and in batches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("2_MultiVectorMask/config.json", {"skiplist_words": ["a"]}, "gives vectors of shape"),
        (
            "sentence_bert_config.json",
            {"query_expansion": {"strategy": "min", "length": 5, "attend": True}},
            "a component differs by",
        ),
    ],
)
def test_the_proof_finds_other_settings(
    both: Callable[[str], Both],
    tmp_path: Path,
    file: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    pair = both("min")
    folder = tmp_path / "model"
    shutil.copytree(pair.folder, folder)
    change_json(folder / file, **changes)
    with pytest.raises(ProofError, match=message):
        prove_bundle(pair.encoder, str(folder))


@pytest.mark.slow
def test_int8(
    both: Callable[[str], Both], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its quality is that of the order of documents."""
    pair, output = both("min"), tmp_path / "int8"
    export_model(str(pair.folder), output=output, precision="int8")
    with MultiVectorEncoder.load(output) as encoder:
        found = encoder.manifest.quantization
        vectors = encoder.encode_document(TEXTS)
    assert isinstance(found, ScoreQuantization)
    assert found.kendall_tau >= OrderQuality().kendall_tau
    assert found.texts > 500
    for one, other in zip(vectors, pair.encoder.encode_document(TEXTS), strict=True):
        assert 0 < np.abs(one - other).max() < 0.2
    assert main(["info", str(output)]) == 0
    assert "Kendall's tau to fp32" in capsys.readouterr().out
    assert "between the orders of a query's documents" in (output / CARD).read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(("noise", "suffices"), [(0.0, True), (0.01, True), (3.0, False)])
def test_int8_is_judged_by_the_order_of_documents(noise: float, *, suffices: bool) -> None:
    draw = np.random.default_rng(0)
    tokens = [*draw.integers(1, 9, 30).tolist(), *draw.integers(1, 20, 40).tolist()]
    vectors = draw.normal(size=(sum(tokens), WIDTH)).astype(np.float32)
    apart = vectors + noise * draw.normal(size=vectors.shape).astype(np.float32)
    quality = measure_max_sim(apart, vectors, tokens=tokens, queries=30)
    assert (not quality.shortfalls(OrderQuality())) == suffices
    ends = np.cumsum(tokens)[:-1]
    texts = [np.split(each, ends) for each in (apart, vectors)]
    orders = [
        kendall_tau(max_sim(query, texts[0][30:])[0], max_sim(other, texts[1][30:])[0])
        for query, other in zip(texts[0][:30], texts[1][:30], strict=True)
    ]
    assert quality.kendall_tau == pytest.approx(np.mean(orders))
    with pytest.raises(QuantizationError, match="vectors in int8: the shape is"):
        measure_max_sim(vectors[1:], vectors, tokens=tokens, queries=30)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"family": "qwen3", "expansion": FIXED}, "does not support in decoders"),
        ({"family": "modernbert", "expansion": FIXED}, "window of 4 tokens on each side"),
        ({"family": "roberta", "document_length": 200}, "200 tokens, and its encoder has 128 pos"),
    ],
)
def test_models_that_are_refused(tmp_path: Path, kind: dict[str, Any], message: str) -> None:
    folder = make_late(tmp_path / "model", **kind)
    with pytest.raises(UnsupportedModelError, match=message):
        export_model(str(folder), output=tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.fixture
def settings(both: Callable[[str], Both], tmp_path: Path) -> Path:
    """A copy of a model's folder."""
    folder = tmp_path / "model"
    shutil.copytree(both("min").folder, folder)
    assert read_settings(folder).task == "late-interaction"
    return folder


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config_sentence_transformers.json", {"model_type": "ColBERT"}, "as PyLate saves it"),
        ("config_sentence_transformers.json", {"model_type": None}, "not MultiVectorEncoder"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "dot"}, "is not one of"),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "max"}}, "strategy 'max'"),
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "min"}}, "has no length"),
        ("sentence_bert_config.json", {"query_length": 3}, "query_length of 3 is less than"),
        (
            "sentence_bert_config.json",
            {"query_expansion": {"strategy": "min", "length": 5, "other": 5}},
            "query_expansion.other, which embedrt does not know",
        ),
        (
            "sentence_bert_config.json",
            {"processing_kwargs": {"text": {"max_length": 5}}},
            "processing_kwargs set max_length",
        ),
        ("sentence_bert_config.json", {"transformer_task": "retrieval"}, "transformer_task"),
        ("2_MultiVectorMask/config.json", {"skiplist_tasks": ["other"]}, "skiplist_tasks has"),
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": [5]}, "models of images"),
        ("3_Normalize/config.json", {"module_input_name": "sentence_embedding"}, "vectors of tok"),
        ("1_Dense/config.json", {"module_input_name": "sentence_embedding"}, "supports only token"),
        ("1_Dense/config.json", {"activation_function": "torch.nn.Mish"}, "torch.nn.Mish"),
    ],
)
def test_settings_that_are_refused(
    settings: Path, file: str, changes: dict[str, Any], message: str
) -> None:
    change_json(settings / file, **changes)
    with pytest.raises(UnsupportedModelError, match=message):
        read_settings(settings)


def test_the_skip_list_is_needed(settings: Path) -> None:
    """A folder from the hub without it would give vectors that the model leaves out."""
    file = "2_MultiVectorMask/config.json"
    assert missing_parts(settings) == []
    (settings / file).unlink()
    assert missing_parts(settings) == [file]


@pytest.mark.parametrize("kinds", [["Dense"], ["Dense", "MultiVectorMask", "TokenPooling"], []])
def test_modules_that_are_refused(settings: Path, kinds: list[str]) -> None:
    where = "sentence_transformers.models."
    names = ["Transformer", *kinds]
    write_json(
        settings / "modules.json",
        [
            {"name": str(n), "path": f"{n}_{kind}", "type": where + kind}
            for n, kind in enumerate(names)
        ],
    )
    with pytest.raises(UnsupportedModelError, match=r"a late interaction model, which .* its mod"):
        read_settings(settings)
