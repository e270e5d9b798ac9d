"""Static models beside sentence-transformers; tests of model2vec's are in `test_model2vec`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize

from comparison import TOLERANCE
from comparison import original as load_original
from embedrt import Bundle, Embedder
from embedrt.bundle.manifest import MAX_TOKENS
from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.source.needed import missing_parts, needed_files
from embedrt_export.static.graph import BLOCK
from model_folders import write_json
from odd_texts import LISTS, plainly_well_formed
from static_models import (
    DIMENSION,
    TEXTS,
    byte_level,
    change_json,
    check,
    check_int8,
    differences,
    exported,
    make_model2vec,
    make_static,
    random_table,
    unigram,
    wordpiece,
)


def narrow_and_wide() -> list[torch.nn.Module]:
    return [Dense(DIMENSION, 16), LayerNorm(16), Normalize()]


STATIC: dict[str, Callable[[Path], Path]] = {
    "plain": make_static,
    "normalized": lambda folder: make_static(folder, tail=[Normalize()]),
    "with a head": lambda folder: make_static(folder, tail=narrow_and_wide()),
    "truncated": lambda folder: make_static(folder, tail=[Normalize()], truncate_dim=8),
    "unigram": lambda folder: make_static(folder, tokenizer=unigram()),
    "byte-level": lambda folder: make_static(folder, tokenizer=byte_level()),
}


def original(folder: Path) -> SentenceTransformer:
    """The model in sentence-transformers, in float64: in float32, its own sums are less exact."""
    return load_original(folder).double()


@pytest.mark.parametrize("kind", STATIC)
def test_static_embedding(tmp_path: Path, kind: str) -> None:
    """Texts of no tokens too, which a head does not leave at zero."""
    folder = STATIC[kind](tmp_path / "model")
    model = original(folder)
    with Embedder.load(exported(folder), threads=2) as embedder:
        check(embedder, TEXTS, np.stack([model.encode(text) for text in TEXTS]))
        manifest = embedder.manifest
    assert (manifest.family, manifest.max_tokens) == ("static", MAX_TOKENS)
    assert manifest.max_characters is None
    assert manifest.agreement is not None
    assert manifest.agreement.reference.startswith("sentence-transformers ")


def test_odd_texts(tmp_path: Path) -> None:
    folder = make_static(tmp_path / "model", tail=[Normalize()])
    model = original(folder)
    with Embedder.load(exported(folder), threads=2) as embedder:

        @settings(max_examples=40, suppress_health_check=list(HealthCheck))
        @given(texts=LISTS)
        def agrees(texts: list[str]) -> None:
            plain = [plainly_well_formed(text) for text in texts]
            check(embedder, texts, np.stack([model.encode(text) for text in plain]))

        agrees()


@pytest.mark.parametrize("direction", ["right", "left"])
def test_truncation_that_the_tokenizer_has(tmp_path: Path, direction: str) -> None:
    """StaticEmbedding itself has no limit; the tokenizer's, if it has one, holds."""
    tokenizer = wordpiece()
    tokenizer.enable_truncation(12, direction=direction)
    folder = make_static(tmp_path / "model", tokenizer=tokenizer)
    with Embedder.load(exported(folder)) as embedder:
        assert (embedder.max_tokens, embedder.manifest.truncation_side) == (12, direction)
        check(embedder, TEXTS, original(folder).encode(TEXTS))


def test_texts_of_any_length(tmp_path: Path) -> None:
    folder = make_static(tmp_path / "model")
    model = original(folder)
    with Embedder.load(exported(folder)) as embedder:
        for tokens in (BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 20_000, 150_000):
            text = "the city grew " * (tokens // 3) + "river " * (tokens % 3)
            assert embedder.count_tokens(text) == tokens
            check(embedder, [text, "a river"], model.encode([text, "a river"]))


def test_a_text_of_no_tokens_has_what_the_head_makes_of_zero(tmp_path: Path) -> None:
    folder = make_static(tmp_path / "model", tail=[Dense(DIMENSION, 8)])
    with Embedder.load(exported(folder)) as embedder:
        found = embedder.encode(["", "London", " \n"])
    assert found[0].any()
    assert found[0].tobytes() == found[2].tobytes()


def test_prompts(tmp_path: Path) -> None:
    prompts = {"query": "ask: ", "passage": "tell: "}
    folder = make_static(
        tmp_path / "model", prompts=prompts, default_prompt_name="query", similarity_fn_name="dot"
    )
    model = original(folder)
    with Embedder.load(exported(folder)) as embedder:
        assert embedder.similarity_fn_name == "dot"
        for name in ("encode", "encode_query", "encode_document"):
            found, expected = (getattr(m, name)(TEXTS) for m in (embedder, model))
            assert differences(embedder, found, expected).max() <= TOLERANCE
        assert (embedder.encode_query("a") != embedder.encode_document("a")).any()


def test_int8(tmp_path: Path) -> None:
    check_int8(make_static(tmp_path / "model"))


def test_the_card_and_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="embedrt_export"):
        bundle = exported(make_static(tmp_path / "model"))
    assert "comparing the bundle with sentence-transformers" in caplog.text
    assert "static, fused" in (bundle / "README.md").read_text(encoding="utf-8")
    assert Bundle.open(bundle, verify="sha256").manifest.max_tokens == MAX_TOKENS


class TestRefused:
    def test_without_model2vec(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = make_model2vec(tmp_path / "model")
        monkeypatch.setitem(sys.modules, "model2vec", None)
        with pytest.raises(UnsupportedModelError, match=r"pip install 'embedrt\[model2vec\]'"):
            exported(folder)
        assert not (tmp_path / "bundle").exists()

    def test_static_embedding_needs_no_model2vec(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = make_static(tmp_path / "model", tokenizer=byte_level())
        monkeypatch.setitem(sys.modules, "model2vec", None)
        assert exported(folder).is_dir()

    @pytest.mark.parametrize(
        ("content", "error", "message"),
        [
            ({"normalize": 1}, SourceError, "normalize to 1; expected true or false"),
            ({"max_length": 0}, SourceError, "max_length to 0; expected a whole number"),
            ({"max_length": "long"}, SourceError, "max_length to 'long'; expected a whole"),
        ],
    )
    def test_settings(
        self, tmp_path: Path, content: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        folder = make_model2vec(tmp_path / "model", tokenizer=byte_level())
        change_json(folder / "config.json", **content)
        with pytest.raises(error, match=message):
            exported(folder)

    def test_files(self, tmp_path: Path) -> None:
        folder = make_model2vec(tmp_path / "model", tokenizer=byte_level())
        tokenizer = folder / "tokenizer.json"
        content = tokenizer.read_bytes()
        tokenizer.write_bytes(content[:-9])
        with pytest.raises(SourceError, match=r"tokenizer\.json is not a tokenizer"):
            exported(folder)
        tokenizer.unlink()
        with pytest.raises(SourceError, match=r"tokenizer\.json is missing"):
            exported(folder)
        model = {**json.loads(content)["model"], "dropout": 0.5}
        write_json(tokenizer, {**json.loads(content), "model": model})
        with pytest.raises(UnsupportedModelError, match="has dropout"):
            exported(folder)
        tokenizer.write_bytes(content)
        (folder / "model.safetensors").unlink()
        with pytest.raises(SourceError, match="has no weights"):
            exported(folder)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"embeddings": torch.ones(5, 4)}, "needs 387 rows, for .*, and a table of 5"),
            ({"embeddings": torch.full((387, 4), torch.nan)}, "holds NaN or infinity"),
            ({"embeddings": torch.ones(387)}, "not 2 axes"),
            ({"mapping": torch.full((387,), 9000)}, "maps tokens to rows"),
            ({"mapping": torch.full((387,), -1)}, "maps tokens to rows"),
            ({"mapping": torch.ones(387)}, "not a list of whole numbers"),
            ({"weights": torch.ones(7)}, "has 7 weights for 387 tokens"),
        ],
    )
    def test_weights(self, tmp_path: Path, changes: dict[str, torch.Tensor], message: str) -> None:
        folder = make_model2vec(tmp_path / "model", tokenizer=byte_level())
        file = folder / "model.safetensors"
        save_file({**load_file(file), **changes}, file)
        with pytest.raises(UnsupportedModelError, match=message):
            exported(folder)

    def test_modules(self, tmp_path: Path) -> None:
        folder = make_static(tmp_path / "model", tokenizer=byte_level(), tail=[Normalize()])
        file = folder / "modules.json"
        modules = json.loads(file.read_text(encoding="utf-8"))
        pooling = {**modules[1], "type": "sentence_transformers.models.Pooling"}
        write_json(file, [modules[0], pooling])
        write_json(folder / modules[1]["path"] / "config.json", {"word_embedding_dimension": 8})
        with pytest.raises(UnsupportedModelError, match="has a Pooling after it"):
            exported(folder)
        write_json(file, [{**modules[0], "type": "theirs.StaticEmbedding"}])
        with pytest.raises(UnsupportedModelError, match="would run code of the model's author"):
            exported(folder)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(rows=st.integers(1, 9), seed=st.integers(0, 999))
def test_quantized_rows(rows: int, seed: int) -> None:
    """Each within half a step of its own scale; a row of zeros stays one."""
    from embedrt_export.table import Table, quantize

    table = random_table(rows, seed=seed)
    table[0] = 0
    small = quantize(Table(rows=table))
    assert small.scales is not None
    found = small.rows * small.scales[:, None]
    steps = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(found - table) <= steps * 0.5001).all()
    assert not found[0].any()
    assert np.abs(small.rows.astype(int)).max() <= 127


def test_a_head_that_is_no_transformers(tmp_path: Path) -> None:
    """The library's own model, to be sure that the test's models are what they seem."""
    folder = make_static(tmp_path / "model", tail=narrow_and_wide())
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.encode("a").shape == (16,)


@pytest.mark.parametrize("make", [make_static, make_model2vec])
def test_files_to_download(tmp_path: Path, make: Callable[..., Path]) -> None:
    """All that an export reads, and what a download in part lacks."""
    folder = make(tmp_path / "model", tokenizer=byte_level())
    files = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    needed = set(needed_files([*files, "onnx/model.onnx", "pytorch_model.bin"]))
    assert {"model.safetensors", "tokenizer.json", "modules.json"} <= needed
    assert not needed & {"onnx/model.onnx", "pytorch_model.bin"}
    assert missing_parts(folder) == []
    for name, missing in (("model.safetensors", "model.safetensors"), ("tokenizer.json", "a voc")):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (reason,) = missing_parts(folder)
        assert reason.startswith(missing)
        (folder / name).write_bytes(content)
