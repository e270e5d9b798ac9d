"""Models of model2vec beside model2vec itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from comparison import TOLERANCE, original
from embedrt import Embedder
from embedrt.cli import main
from embedrt.errors import ExportError, UnsupportedModelError
from embedrt_export import prove_bundle
from odd_texts import LISTS, plainly_well_formed
from static_models import (
    TEXTS,
    UNKNOWN,
    Vectors,
    byte_level,
    change_json,
    check,
    check_int8,
    exported,
    make_model2vec,
    unigram,
)

# It needs huggingface-hub 1, which transformers 4 does not take.
StaticModel = pytest.importorskip("model2vec").StaticModel

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


def model2vec(folder: Path) -> Callable[[Sequence[str]], Vectors]:
    """The model in model2vec, in float64: it rounds the means to the type of the table."""
    model = StaticModel.from_pretrained(folder, quantize_to="float64", force_download=False)
    return lambda texts: np.asarray(model.encode(list(texts)))


@pytest.mark.parametrize("kind", MODEL2VEC)
def test_model2vec(tmp_path: Path, kind: str) -> None:
    folder = MODEL2VEC[kind](tmp_path / "model")
    with Embedder.load(exported(folder), threads=2) as embedder:
        check(embedder, TEXTS, model2vec(folder)(TEXTS))
        assert embedder.manifest.family == "model2vec"
        assert embedder.manifest.agreement is not None
        assert embedder.manifest.agreement.reference.startswith("model2vec ")
        assert embedder.manifest.tools["model2vec"]


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
        assert embedder.manifest.max_characters == 32
        check(embedder, texts, encode(texts))
        prompted = embedder.encode(texts, prompt="as: ")
        assert np.abs(prompted - encode([f"as: {text}" for text in texts])).max() <= TOLERANCE


def test_odd_texts(tmp_path: Path) -> None:
    folder = make_model2vec(tmp_path / "model", normalize=True)
    encode = model2vec(folder)
    with Embedder.load(exported(folder), threads=2) as embedder:

        @settings(max_examples=40, suppress_health_check=list(HealthCheck))
        @given(texts=LISTS)
        def agrees(texts: list[str]) -> None:
            check(embedder, texts, encode([plainly_well_formed(text) for text in texts]))

        agrees()


def test_int8(tmp_path: Path) -> None:
    check_int8(make_model2vec(tmp_path / "model"))


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_fp32_keeps_the_type_of_the_table(tmp_path: Path, dtype: str) -> None:
    """The graph converts it exactly, and the bundle is no larger than the model."""
    folder = make_model2vec(tmp_path / "model", dtype=dtype)
    size = (folder / "model.safetensors").stat().st_size
    assert (exported(folder) / "weights.bin").stat().st_size <= size


def test_info_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = exported(make_model2vec(tmp_path / "model"))
    assert main(["info", str(bundle)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "encoder model2vec, fused, fp32" in shown
    assert "max tokens 512, truncated on the right, of the first 2048 characters" in shown
    assert main(["verify", str(bundle), "--against", str(tmp_path / "model")]) == 0
    assert "vectors on this machine" in capsys.readouterr().out


def test_prove_bundle(tmp_path: Path) -> None:
    """Also against the wrong model of the two."""
    folder = make_model2vec(tmp_path / "model", tokenizer=unigram(), normalize=True)
    with Embedder.load(exported(folder)) as embedder:
        assert prove_bundle(embedder, str(folder)).same_bytes
        change_json(folder / "config.json", model_type="other")
        with pytest.raises(ExportError, match="does not agree with sentence-transformers"):
            prove_bundle(embedder, str(folder))


def test_a_table_that_model2vec_does_not_take(tmp_path: Path) -> None:
    """It has more rows than the tokenizer has tokens."""
    folder = make_model2vec(tmp_path / "model", tokenizer=byte_level())
    file = folder / "model.safetensors"
    save_file({**load_file(file), "embeddings": torch.ones(500, 4)}, file)
    with pytest.raises(UnsupportedModelError, match="Model2Vec does not run"):
        exported(folder)


def test_the_tokenizer_is_not_the_models(tmp_path: Path) -> None:
    """The bundle's adds no special tokens, pads nothing and truncates nothing itself."""
    folder = make_model2vec(tmp_path / "model", max_length=9)
    content = json.loads((exported(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    assert [content[key] for key in ("truncation", "padding", "post_processor")] == [None] * 3
    kept = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert kept.truncation is not None
    assert kept.truncation["max_length"] == 9


def test_model2vec_saves_the_same_files(tmp_path: Path) -> None:
    """The tests' models are what model2vec itself would have written."""
    ours = make_model2vec(tmp_path / "model", tokenizer=byte_level(), weighted=True, clusters=50)
    model = StaticModel.from_pretrained(ours, force_download=False)
    model.save_pretrained(theirs := tmp_path / "theirs")
    assert {file.name for file in theirs.iterdir()} - {"README.md"} == {
        file.name for file in ours.iterdir()
    }
    saved = [load_file(folder / "model.safetensors") for folder in (ours, theirs)]
    assert saved[0].keys() == saved[1].keys()
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0])
    tokenizers = [Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (ours, theirs)]
    assert tokenizers[0].truncation == tokenizers[1].truncation
    config = json.loads((theirs / "config.json").read_text(encoding="utf-8"))
    assert json.loads((ours / "config.json").read_text(encoding="utf-8")).items() <= config.items()
