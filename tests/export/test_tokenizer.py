"""What becomes of a model's tokenizer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer

from comparison import Pair, assert_agrees, embed_alone, original
from embedrt import Embedder
from embedrt_export import export_model
from model_folders import TRAINING_TEXTS, make_small, write_json

TEXTS = ["", "a", "How many people live in London?", "naïve 敏捷 😀", "a lazy dog " * 30]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_small(tmp_path / "model", "bert")


def change(file: Path, **changes: Any) -> None:
    write_json(file, json.loads(file.read_text(encoding="utf-8")) | changes)


def export(folder: Path) -> Pair:
    return Pair(folder, export_model(str(folder), output=folder.with_name("bundle")))


def test_vocabulary_alone_is_converted(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    pair = export(folder)
    assert Tokenizer.from_file(str(pair.bundle / "tokenizer.json")).get_vocab_size() == 30522
    assert_agrees(pair, TEXTS)


def test_sentencepiece_model_alone_is_converted(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "xlm-roberta")
    for name in ("tokenizer.json", "special_tokens_map.json"):
        (folder / name).unlink()
    settings = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 64}
    write_json(folder / "tokenizer_config.json", settings)
    trained = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING_TEXTS[:2] * 5),
        model_writer=trained,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.model").write_bytes(trained.getvalue())
    assert_agrees(export(folder), TEXTS)


def test_fixed_padding_and_truncation_are_not_taken_over(folder: Path) -> None:
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(16)
    tokenizer.save(str(file))
    assert json.loads(file.read_text(encoding="utf-8"))["padding"]["strategy"] == {"Fixed": 128}
    pair = export(folder)
    content = json.loads((pair.bundle / "tokenizer.json").read_text(encoding="utf-8"))
    assert content["padding"] is None
    assert content["truncation"] is None
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == 64
    assert_agrees(pair, TEXTS)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_truncation_on_the_left(tmp_path: Path, family: str) -> None:
    folder = make_small(tmp_path / "model", family)
    change(folder / "tokenizer_config.json", truncation_side="left")
    pair = export(folder)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.truncation_side == "left"
        long = "a lazy dog " * 40
        first, second = embedder.encode([long + "again", long + "London"])
    assert abs(first - second).max() > 1e-3
    assert_agrees(pair, [*TEXTS, "a lazy dog " * 40 + "London"])


def test_lower_case_by_the_settings(tmp_path: Path) -> None:
    """sentence-transformers adds it to the tokenizer."""
    folder = make_small(tmp_path / "model", "roberta")
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    pair = export(folder)
    with Embedder.load(pair.bundle) as embedder:
        upper, lower = embedder.encode(["LONDON", "london"])
    assert upper.tobytes() == lower.tobytes()
    assert_agrees(pair, [*TEXTS, "LONDON"])


@pytest.mark.parametrize(("says", "means"), [(32, 32), (None, 512), (100_000, 512)])
def test_longest_text(tmp_path: Path, says: int | None, means: int) -> None:
    """By the settings, else as many as there are positions."""
    folder = make_small(tmp_path / "model", "bert", max_tokens=says)
    pair = export(folder)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == means
    if says in (None, 32):
        assert_agrees(pair, [*TEXTS, "the lazy dog " * 200])


def test_words_added_to_the_vocabulary(tmp_path: Path, exported: Callable[[str], Pair]) -> None:
    """A tokenizer that knows more than the encoder would read past the end of its table."""
    folder = make_small(tmp_path / "model", "bert")
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_tokens(["blorb"])
    tokenizer.save(str(file))
    with pytest.raises(ValueError, match="30523"):
        export(folder)
    assert embed_alone(original(exported("bert").folder), ["a"]).shape == (1, 32)
