"""Static models beside the libraries that made them: StaticEmbedding and model2vec."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model2vec import StaticModel
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize
from tokenizers import Tokenizer

from comparison import TOLERANCE
from comparison import original as load_original
from embedrt import Bundle, Embedder
from embedrt.bundle.manifest import MAX_TOKENS, Quantization
from embedrt.cli import main
from embedrt.errors import ExportError, SourceError, UnsupportedModelError
from embedrt.verify import row_differences
from embedrt_export import export_model, prove_bundle
from embedrt_export.static.graph import BLOCK
from model_folders import write_json
from odd_texts import LISTS, plainly_well_formed
from static_models import (
    DIMENSION,
    byte_level,
    change_json,
    make_model2vec,
    make_static,
    random_table,
    unigram,
    wordpiece,
)

UNKNOWN = "a \U0001f9ff b \U0001f9ff\U0001f9ff c"
TEXTS = [
    "",
    " ",
    "London",
    UNKNOWN,
    "\U0001f9ff",
    "[UNK] [CLS] and [SEP]",
    "How many people live in London? Around 9 million people live in London.",
    *(" ".join(f"word{i}" for i in range(count)) for count in (5, 50, 190, 300, 700)),
    "x" * 150 + " and the lazy dog",
    "many   " * 900,
]

Vectors = NDArray[np.float32]


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
MODEL2VEC: dict[str, Callable[[Path], Path]] = {
    "plain": make_model2vec,
    "normalized": lambda folder: make_model2vec(folder, normalize=True),
    "weighted": lambda folder: make_model2vec(folder, weighted=True),
    "clustered": lambda folder: make_model2vec(folder, clusters=500, weighted=True, normalize=True),
    "float16": lambda folder: make_model2vec(folder, dtype="float16", normalize=True),
    "float64": lambda folder: make_model2vec(folder, dtype="float64"),
    "int8": lambda folder: make_model2vec(folder, dtype="int8", normalize=True),
    "short": lambda folder: make_model2vec(folder, max_length=7, normalize=True),
    "of any length": lambda folder: make_model2vec(folder, max_length=None),
    "unigram": lambda folder: make_model2vec(folder, tokenizer=unigram(), normalize=True),
    "byte-level": lambda folder: make_model2vec(folder, tokenizer=byte_level()),
}


def exported(folder: Path, **options: Any) -> Path:
    return export_model(str(folder), output=folder.with_name("bundle"), **options)


def original(folder: Path) -> SentenceTransformer:
    """The model in sentence-transformers, in float64: in float32, its own sums are less exact."""
    return load_original(folder).double()


def model2vec(folder: Path) -> Callable[[Sequence[str]], Vectors]:
    """The model in model2vec, in float64: it rounds the means to the type of the table."""
    model = StaticModel.from_pretrained(folder, quantize_to="float64", force_download=False)
    return lambda texts: np.asarray(model.encode(list(texts)))


def same_alone(embedder: Embedder, texts: Sequence[str], together: Vectors) -> bool:
    return all(
        embedder.encode(text).tobytes() == row.tobytes()
        for text, row in zip(texts, together, strict=True)
    )


def differences(embedder: Embedder, found: Vectors, expected: Vectors) -> Vectors:
    return row_differences(found, expected, normalized=embedder.manifest.normalized)


def check(embedder: Embedder, texts: Sequence[str], expected: Vectors) -> None:
    found = embedder.encode(texts)
    assert differences(embedder, found, expected).max() <= TOLERANCE
    assert same_alone(embedder, texts, found)


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


@pytest.mark.parametrize("kind", MODEL2VEC)
def test_model2vec(tmp_path: Path, kind: str) -> None:
    folder = MODEL2VEC[kind](tmp_path / "model")
    with Embedder.load(exported(folder), threads=2) as embedder:
        check(embedder, TEXTS, model2vec(folder)(TEXTS))
        assert embedder.manifest.family == "model2vec"
        assert embedder.manifest.agreement is not None
        assert embedder.manifest.agreement.reference.startswith("model2vec ")
        assert embedder.manifest.tools["model2vec"]


@pytest.mark.parametrize("library", ["static", "model2vec"])
def test_odd_texts(tmp_path: Path, library: str) -> None:
    if library == "static":
        folder = make_static(tmp_path / "model", tail=[Normalize()])
        model = original(folder)
        encode = lambda texts: np.stack([model.encode(text) for text in texts])  # noqa: E731
    else:
        folder = make_model2vec(tmp_path / "model", normalize=True)
        encode = model2vec(folder)
    with Embedder.load(exported(folder), threads=2) as embedder:

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(texts=LISTS)
        def agrees(texts: list[str]) -> None:
            expected = encode([plainly_well_formed(text) for text in texts])
            check(embedder, texts, expected)

        agrees()


def test_the_same_files_are_two_models(tmp_path: Path) -> None:
    """model2vec leaves unknown tokens out, and sentence-transformers does not."""
    folder = make_model2vec(tmp_path / "model", normalize=True)
    theirs = original(folder).encode([UNKNOWN, "\U0001f9ff"])
    with Embedder.load(exported(folder)) as embedder:
        ours = embedder.encode([UNKNOWN, "\U0001f9ff"])
    assert np.abs(ours[0] - theirs[0]).max() > 0.05
    assert not ours[1].any()
    assert theirs[1].any()
    change_json(folder / "config.json", model_type="other")
    with Embedder.load(exported(folder)) as embedder:
        found = embedder.encode([UNKNOWN, "\U0001f9ff"])
        assert embedder.manifest.family == "static"
    assert np.abs(found - theirs).max() <= TOLERANCE


def test_model2vec_cuts_texts_by_their_characters(tmp_path: Path) -> None:
    """In the middle of words, before it tokenizes, and with the prompt."""
    folder = make_model2vec(tmp_path / "model", max_length=8, normalize=True)
    encode = model2vec(folder)
    word = "Pneumonoultramicroscopicsilicovolcanoconiosis is a word of many letters"
    texts = [word[:length] + " and more" for length in range(30, 60)]
    texts += [" " * length + word for length in range(30, 60)]
    with Embedder.load(exported(folder)) as embedder:
        assert embedder.manifest.max_characters == 48
        check(embedder, texts, encode(texts))
        prompted = embedder.encode(texts, prompt="as: ")
        assert np.abs(prompted - encode([f"as: {text}" for text in texts])).max() <= TOLERANCE


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


class TestInt8:
    @pytest.mark.parametrize("make", [make_static, make_model2vec])
    def test_table(self, tmp_path: Path, make: Callable[..., Path]) -> None:
        folder = make(tmp_path / "model")
        whole = exported(folder)
        small = export_model(str(folder), output=tmp_path / "int8", precision="int8")
        sizes = [(bundle / "weights.bin").stat().st_size for bundle in (small, whole)]
        assert sizes[0] < sizes[1] * (DIMENSION + 5) / (4 * DIMENSION)  # and a scale for each row
        with Embedder.load(small) as int8, Embedder.load(whole) as fp32:
            found, expected = int8.encode(TEXTS), fp32.encode(TEXTS)
            assert same_alone(int8, TEXTS, found)
            quantization = int8.manifest.quantization
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        cosines = (found * expected).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
        assert cosines.min() > 0.9995
        assert isinstance(quantization, Quantization)
        assert (quantization.scheme, quantization.rejected) == ("table", ())
        assert quantization.min_cosine > 0.9995

    @pytest.mark.parametrize("dtype", ["float16", "int8"])
    def test_fp32_keeps_the_type_of_the_table(self, tmp_path: Path, dtype: str) -> None:
        """The graph converts it exactly, and the bundle is no larger than the model."""
        folder = make_model2vec(tmp_path / "model", dtype=dtype)
        size = (folder / "model.safetensors").stat().st_size
        assert (exported(folder) / "weights.bin").stat().st_size <= size


class TestCommands:
    def test_info_and_verify(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        bundle = exported(make_model2vec(tmp_path / "model"))
        assert main(["info", str(bundle)]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "encoder model2vec, fused, fp32" in shown
        assert "max tokens 512, truncated on the right, of the first 3072 characters" in shown
        assert main(["verify", str(bundle), "--against", str(tmp_path / "model")]) == 0
        assert "vectors on this machine" in capsys.readouterr().out

    def test_prove_bundle(self, tmp_path: Path) -> None:
        """Also against the wrong model of the two."""
        folder = make_model2vec(tmp_path / "model", tokenizer=unigram(), normalize=True)
        with Embedder.load(exported(folder)) as embedder:
            assert prove_bundle(embedder, str(folder)).same_bytes
            change_json(folder / "config.json", model_type="other")
            with pytest.raises(ExportError, match="does not agree with sentence-transformers"):
                prove_bundle(embedder, str(folder))

    def test_the_card_and_the_log(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
            ({"embeddings": torch.ones(500, 4)}, "does not run"),
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
        with pytest.raises(UnsupportedModelError, match="has a Pooling after it"):
            exported(folder)
        write_json(file, [{**modules[0], "type": "theirs.StaticEmbedding"}])
        with pytest.raises(UnsupportedModelError, match="would run code of the model's author"):
            exported(folder)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
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


def test_the_tokenizer_is_not_the_models(tmp_path: Path) -> None:
    """The bundle's adds no special tokens, pads nothing and truncates nothing itself."""
    folder = make_model2vec(tmp_path / "model", max_length=9)
    content = json.loads((exported(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    assert [content[key] for key in ("truncation", "padding", "post_processor")] == [None] * 3
    kept = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert kept.truncation is not None
    assert kept.truncation["max_length"] == 9


def test_a_head_that_is_no_transformers(tmp_path: Path) -> None:
    """The library's own model, to be sure that the test's models are what they seem."""
    folder = make_static(tmp_path / "model", tail=narrow_and_wide())
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.encode("a").shape == (16,)
