"""Models whose pooling leaves the tokens of the prompt out, compared with sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from any_architecture import make_any
from comparison import TOLERANCE, original
from embedrt import Bundle, Embedder
from embedrt.cli import main
from embedrt.corpus import embed_table
from embedrt.errors import KernelsError, ProofError, UnsupportedModelError
from embedrt.kernels.choose import choose_unloaded
from embedrt.text.pooling_mask import ToPooled
from embedrt_export import export_model
from embedrt_export.pipeline import prove_bundle
from embedrt_export.source.find import Source
from embedrt_export.source.prompts import UNPOOLED
from model_folders import change_json, decoder_tokenizer, make_small, write_json

PROMPTS = {"query": "query: ", "document": "a text of the fox: ", "none": "", "end": "query:</s>"}
ALL_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
WITHOUT_MAX = tuple(mode for mode in ALL_MODES if mode != "max")
TEXTS = ["a dog", "", " the fox", "the quick brown fox jumps over it", "again and again " * 40]
CALLS: list[tuple[str, dict[str, str]]] = [
    ("encode", {}),
    ("encode", {"prompt": ""}),
    ("encode", {"prompt": "x"}),
    ("encode", {"prompt": "again and again " * 40}),
    ("encode_query", {}),
    ("encode_document", {}),
    *(("encode", {"prompt_name": name}) for name in PROMPTS),
]


def leave_out(folder: Path) -> Path:
    """Make the pooling of a model leave the prompt out."""
    file = folder / "1_Pooling" / "config.json"
    write_json(file, {**json.loads(file.read_text(encoding="utf-8")), "include_prompt": False})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with all modes of pooling, whose tokenizer adds a token at each end."""
    place = tmp_path_factory.mktemp("left-out") / "model"
    made = make_small(place, "roberta", pooling=ALL_MODES, tail=[], prompts=PROMPTS)
    return leave_out(made)


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return export_model(str(folder), output=folder.with_name("fp32"))


def alone(model: Any, method: str, options: Mapping[str, str]) -> NDArray[np.float32]:
    return np.stack([getattr(model, method)(text, **options) for text in TEXTS])


def require_agreement(folder: Path, bundle: Path) -> None:
    """Compare all calls with the original, and texts alone with texts together."""
    model = original(folder)
    with Embedder.load(bundle) as embedder:
        for method, options in CALLS:
            expected, found = (alone(one, method, options) for one in (model, embedder))
            scale = np.maximum(np.abs(expected).max(axis=1, keepdims=True), 1)
            assert (np.abs(found - expected) / scale).max() <= TOLERANCE, (method, options)
            together = getattr(embedder, method)(TEXTS, **options)
            assert together.tobytes() == found.tobytes(), (method, options)


def test_every_mode_in_every_call(
    folder: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_agreement(folder, bundle)
    assert main(["info", str(bundle)]) == 0
    assert "lasttoken, without the prompt" in capsys.readouterr().out
    assert "lasttoken, without the prompt" in (bundle / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("t5", {"pooling": "mean"}),
        ("bert", {"pooling": "cls"}),
        ("qwen3", {"pooling": "lasttoken"}),
        # A prompt without a text has no token that is pooled.
        ("llama", {"pooling": WITHOUT_MAX, "tokenizer": decoder_tokenizer("", "<|endoftext|>")}),
    ],
)
def test_families(tmp_path: Path, family: str, options: dict[str, Any]) -> None:
    folder = leave_out(make_small(tmp_path / "model", family, prompts=PROMPTS, **options))
    require_agreement(folder, export_model(str(folder), output=tmp_path / "bundle"))


def test_a_traced_encoder(tmp_path: Path) -> None:
    folder = leave_out(make_any(tmp_path / "model", "roberta-prelayernorm"))
    write_json(folder / "config_sentence_transformers.json", {"prompts": PROMPTS})
    bundle = export_model(str(folder), output=tmp_path / "bundle")
    assert Bundle.open(bundle).manifest.builder == "traced"
    require_agreement(folder, bundle)


def test_int8(folder: Path, tmp_path: Path) -> None:
    bundle = export_model(str(folder), output=tmp_path / "int8", precision="int8")
    with pytest.raises(KernelsError, match="cannot leave prompts out of the pooling"):
        choose_unloaded(Bundle.open(bundle), "require")
    model = original(folder)
    with Embedder.load(bundle) as embedder:
        expected = alone(model, "encode_query", {})
        found = alone(embedder, "encode_query", {})
        assert embedder.encode_query(TEXTS).tobytes() == found.tobytes()
        with_prompt = embedder.encode([f"query: {text}" for text in TEXTS])
    cosines = (found * expected).sum(1)
    cosines /= np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.99
    assert np.abs(found - with_prompt).max() > 0.01


def test_a_prompt_without_tokens(tmp_path: Path) -> None:
    """sentence-transformers asks for the last token of the prompt, and fails on each text."""
    made = make_small(tmp_path / "model", "bert", prompts={"blank": " "})
    keywords = {"text": {"add_special_tokens": False}}
    change_json(leave_out(made) / "sentence_bert_config.json", processing_kwargs=keywords)
    with pytest.raises(UnsupportedModelError, match=r"fails at encode\(prompt_name='blank'\) on '"):
        export_model(str(made), output=tmp_path / "bundle")


def test_equal_tokens_with_different_prompts_are_different_texts(bundle: Path) -> None:
    """In the cache, among calls at the same time, and in one batch."""
    texts = ["a dog", "the fox", "a cat", "it"]
    ways = [
        (texts, "query: "),
        ([f"query: {text}" for text in texts], ""),
        ([f"ry: {text}" for text in texts], "que"),
    ]
    with Embedder.load(bundle, threads=1) as embedder:
        expected = [
            np.stack([embedder.encode(text, prompt=prompt) for text in some])
            for some, prompt in ways
        ]
    assert len({rows.tobytes() for rows in expected}) == len(ways)
    with Embedder.load(bundle, cache_mb=1) as embedder, ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = list(pool.map(lambda way: embedder.encode(way[0], prompt=way[1]), ways * 8))
            assert [rows.tobytes() for rows in found] == [rows.tobytes() for rows in expected] * 8
        assert embedder.stats().cache_hits
        blocks = embedder.embed_stream(texts, prompt="query: ")
        assert np.concatenate(list(blocks)).tobytes() == expected[0].tobytes()


def test_tables_leave_the_prompt_out_too(bundle: Path) -> None:
    texts = ["a dog", None, "the fox"]
    with Embedder.load(bundle) as embedder:
        table = embed_table(pa.table({"text": texts}), embedder, prompt_name="query")
        expected = embedder.encode(["a dog", "the fox"], prompt_name="query")
    found = np.array([row for row in table["embedding"].to_pylist() if row], np.float32)
    assert found.tobytes() == expected.tobytes()


def test_an_exporter_that_pools_the_prompt_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToPooled, "_prompt_tokens", 0)
    with pytest.raises(ProofError, match=r"encode_document\(\)"):
        export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.parametrize("model", UNPOOLED)
def test_ids_that_leave_the_prompt_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """The files do not say so, but sentence-transformers knows the id."""
    folder = make_small(tmp_path / "model", "t5", prompts=PROMPTS)
    source = Source(folder, model, "hub", "0" * 40, None)
    monkeypatch.setattr("embedrt_export.pipeline.find_source", lambda *_, **__: source)
    bundle = export_model(source.id, output=tmp_path / "bundle")
    known = original(folder)
    known.set_pooling_include_prompt(include_prompt=False)
    with Embedder.load(bundle) as embedder:
        prove_bundle(embedder, source.id)
        found, expected = (alone(one, "encode_query", {}) for one in (embedder, known))
    assert np.abs(found - expected).max() <= TOLERANCE


def test_the_prompt_is_tokenized_once() -> None:
    seen: list[Sequence[str]] = []

    def remember(texts: Sequence[str]) -> list[NDArray[np.int64]]:
        seen.append(texts)
        return [np.arange(3) for _ in texts]

    tokenize: Callable[..., Any] = ToPooled(remember, "query: ", {2})
    (one, *_), (other,) = tokenize(["query: a", "query: b"]), tokenize(["query: c"])
    assert one.tolist() == other.tolist() == [[0, 1, 2], [0, 0, 1]]
    assert [texts for texts in seen if texts == ["query: "]] == [["query: "]]
