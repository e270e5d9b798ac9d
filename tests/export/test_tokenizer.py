"""Tests of the conversion of a model's tokenizer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer
from transformers import AutoConfig, PreTrainedTokenizerFast

from comparison import Pair, assert_agrees, embed_alone, original
from embedrt import Embedder
from embedrt.errors import UnsupportedModelError
from embedrt_export import export_model
from embedrt_export.assemble import build_graph, fit_texts
from embedrt_export.encoder import TokenTypes
from embedrt_export.proof.oracle import types_of
from embedrt_export.source.settings import read_settings
from model_folders import TRAINING_TEXTS, bert_words, change_json, make_small, write_json

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
    (folder / "vocab.txt").write_text("\n".join(bert_words()) + "\n", encoding="utf-8")
    pair = export(folder)
    assert Tokenizer.from_file(str(pair.bundle / "tokenizer.json")).get_vocab_size() == len(
        bert_words()
    )
    assert_agrees(pair, TEXTS)


def test_sentencepiece_model_alone_is_converted(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "xlm-roberta")
    for name in ("tokenizer.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
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


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_no_vocabulary(tmp_path: Path, family: str) -> None:
    """The export fails, although transformers 5 makes a working tokenizer of special tokens."""
    folder = make_small(tmp_path / "model", family)
    for name in ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    if family == "roberta":
        change(folder / "tokenizer_config.json", tokenizer_class="RobertaTokenizer")
    with pytest.raises(UnsupportedModelError, match="tokenizer"):
        export(folder)


def save_as_transformers_5_does(folder: Path, **settings: Any) -> None:
    """Save all settings in tokenizer.json, with a class that transformers 4 does not have."""
    for name in ("special_tokens_map.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    common = {"backend": "tokenizers", "is_local": False, "model_max_length": 64}
    names = {"cls": "[CLS]", "mask": "[MASK]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]"}
    tokens = {f"{name}_token": token for name, token in names.items()}
    settings = {"tokenizer_class": "TokenizersBackend", **settings}
    write_json(folder / "tokenizer_config.json", {**common, **tokens, **settings})


@pytest.mark.parametrize("special", [{}, {"extra_special_tokens": ["[unused1]"]}], ids=str)
def test_saved_by_transformers_5(folder: Path, special: dict[str, list[str]]) -> None:
    save_as_transformers_5_does(folder, **special)
    if transformers.__version__.startswith("4."):
        advice = r"saved by transformers 5, newer than the installed 4\.[\d.]+: pip install --up"
        with pytest.raises(UnsupportedModelError, match=advice):
            export(folder)
    else:
        assert_agrees(export(folder), [*TEXTS, "a [unused1] token"])


def test_saved_by_transformers_5_with_a_class_of_before(folder: Path) -> None:
    save_as_transformers_5_does(folder, tokenizer_class="BertTokenizer")
    assert_agrees(export(folder), TEXTS)


def test_no_advice_on_other_broken_tokenizers(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "vocab.txt").unlink(missing_ok=True)
    with pytest.raises(UnsupportedModelError) as caught:
        export(folder)
    assert "saved by" not in str(caught.value)


def test_fixed_padding_and_truncation_are_removed(folder: Path) -> None:
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
    """sentence-transformers adds lower-casing to the tokenizer."""
    folder = make_small(tmp_path / "model", "roberta")
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    pair = export(folder)
    with Embedder.load(pair.bundle) as embedder:
        upper, lower = embedder.encode(["LONDON", "london"])
    assert upper.tobytes() == lower.tobytes()
    assert_agrees(pair, [*TEXTS, "LONDON"])


@pytest.mark.parametrize(("says", "means"), [(32, 32), (None, 512), (100_000, 512)])
def test_longest_text(tmp_path: Path, says: int | None, means: int) -> None:
    """The maximum is that of the settings, otherwise the number of positions."""
    folder = make_small(tmp_path / "model", "bert", max_tokens=says)
    pair = export(folder)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == means
    if says in (None, 32):
        assert_agrees(pair, [*TEXTS, "the lazy dog " * 200])


def test_words_added_to_the_vocabulary(tmp_path: Path, exported: Callable[[str], Pair]) -> None:
    """With more tokens than the encoder has rows, lookups would exceed the embedding table."""
    folder = make_small(tmp_path / "model", "bert")
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_tokens(["blorb"])
    tokenizer.save(str(file))
    with pytest.raises(ValueError, match=str(len(bert_words()) + 1)):
        export(folder)
    assert embed_alone(original(exported("bert").folder), ["a"]).shape == (1, 32)


def test_a_word_whose_id_is_beyond_the_table(folder: Path) -> None:
    """There are fewer tokens than rows, but the id of one of them has no row."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    del content["model"]["vocab"]["zu"]
    content["model"]["vocab"]["blorb"] = 31000
    write_json(folder / "tokenizer.json", content)
    rows = len(bert_words())
    with pytest.raises(UnsupportedModelError, match=f"needs 31001 rows, for 'blorb'.* with {rows}"):
        export(folder)


def test_a_special_token_whose_id_is_beyond_the_table(folder: Path) -> None:
    """The template around each text has ids of its own."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["post_processor"] = template(first=0, text=0, last=0, ids=(101, 40000))
    write_json(folder / "tokenizer.json", content)
    change(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    with pytest.raises(UnsupportedModelError):
        export(folder)


def template(*, first: int, text: int, last: int, ids: tuple[int, int] = (101, 102)) -> object:
    """Return a post-processor for ``[CLS] text [SEP]`` with these token types."""
    names = "[CLS]", "[SEP]"
    return {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": first}},
            {"Sequence": {"id": "A", "type_id": text}},
            {"SpecialToken": {"id": "[SEP]", "type_id": last}},
        ],
        "pair": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {
            name: {"id": name, "ids": [number], "tokens": [name]}
            for name, number in zip(names, ids, strict=True)
        },
    }


def give_types(folder: Path, first: int, text: int, last: int) -> Path:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["post_processor"] = template(first=first, text=text, last=last)
    write_json(folder / "tokenizer.json", content)
    # A specific tokenizer class would replace this post-processor with its own.
    names = ["input_ids", "token_type_ids", "attention_mask"]
    change_json(
        folder / "tokenizer_config.json",
        tokenizer_class="PreTrainedTokenizerFast",
        model_input_names=names,
    )
    return folder


@pytest.mark.parametrize("types", [(0, 1, 1), (1, 1, 1), (1, 0, 0), (2, 1, 1)])
def test_token_types(tmp_path: Path, types: tuple[int, int, int]) -> None:
    config = {"type_vocab_size": 3}
    folder = give_types(make_small(tmp_path / "model", "bert", config=config), *types)
    pair = export(folder)
    assert_agrees(pair, TEXTS)
    with Embedder.load(pair.bundle) as embedder:
        found = embedder.encode("a lazy dog")
    change_json(folder / "tokenizer_config.json", model_input_names=["input_ids"])
    (without,) = embed_alone(original(folder), ["a lazy dog"])
    assert abs(found - without).max() > 1e-3


@pytest.mark.parametrize("family", ["distilbert", "mpnet"])
def test_token_types_of_an_encoder_without(tmp_path: Path, family: str) -> None:
    folder = give_types(make_small(tmp_path / "model", family), 0, 1, 1)
    change_json(folder / "tokenizer_config.json", model_input_names=["input_ids"])
    assert_agrees(export(folder), TEXTS)


@pytest.mark.parametrize(
    ("family", "types", "reason"),
    [
        ("bert", (0, 1, 0), "depend on a text's length"),
        ("big_bird", (0, 1, 1), "a traced encoder supports only type 0"),
        ("bert", (0, 2, 2), "beyond the encoder's tables"),
    ],
)
def test_token_types_that_are_refused(
    tmp_path: Path, family: str, types: tuple[int, int, int], reason: str
) -> None:
    folder = give_types(make_small(tmp_path / "model", family), *types)
    with pytest.raises(UnsupportedModelError, match=reason):
        export(folder)


def test_token_types_that_the_encoder_does_not_have(folder: Path, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    built = build_graph(read_settings(folder), config, tmp_path / "graph")
    with pytest.raises(UnsupportedModelError, match=r"types \[0, 2\], and the encoder has 2"):
        fit_texts(built, TokenTypes(first=(0,), rest=2), 64)


@pytest.mark.parametrize(
    ("rows", "types"),
    [
        ([], TokenTypes()),
        ([[]], TokenTypes()),
        ([[0, 0], [0, 0, 0]], TokenTypes()),
        ([[0, 1], [0, 1, 1]], TokenTypes(first=(0,), rest=1)),
        ([[2, 0, 1], [2, 0, 1, 1], [2]], TokenTypes(first=(2, 0), rest=1)),
        ([[0, 1, 0], [0, 1, 1, 0]], None),
        ([[1], [0, 0]], None),
    ],
)
def test_the_rule_of_token_types(rows: list[list[int]], types: TokenTypes | None) -> None:
    assert types_of(rows) == types
    if types is not None:
        assert [types.of(len(row)).tolist() for row in rows] == rows


@pytest.mark.parametrize("bucket", ["text", "common"])
@pytest.mark.parametrize("length", [12, 100])
def test_longest_text_by_a_keyword_of_the_call(folder: Path, bucket: str, length: int) -> None:
    """The keyword takes precedence over max_seq_length, which is 64 here."""
    keywords = {bucket: {"max_length": length}}
    change_json(folder / "sentence_bert_config.json", processing_kwargs=keywords)
    pair = export(folder)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == length
    assert_agrees(pair, [*TEXTS, "the lazy dog " * 200])


@pytest.mark.parametrize(("family", "tokens"), [("bert", 1), ("roberta", 2)])
def test_without_special_tokens(tmp_path: Path, family: str, tokens: int) -> None:
    folder = make_small(tmp_path / "model", family)
    keywords = {"text": {"add_special_tokens": False}}
    change_json(folder / "sentence_bert_config.json", processing_kwargs=keywords)
    pair = export(folder)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.count_tokens("dog") == tokens
        assert embedder.count_tokens("") == 0
        assert not embedder.encode("").any()
    assert_agrees(pair, TEXTS[1:])


def test_int8_without_special_tokens(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "bert")
    keywords = {"text": {"add_special_tokens": False}}
    change_json(folder / "sentence_bert_config.json", processing_kwargs=keywords)
    bundle = export_model(str(folder), output=tmp_path / "bundle", precision="int8")
    with Embedder.load(bundle) as embedder:
        assert embedder.count_tokens("dog") == 1


def test_settings_of_the_tokenizer(folder: Path) -> None:
    keywords = {"model_max_length": 16, "truncation_side": "left", "do_lower_case": False}
    change_json(folder / "sentence_bert_config.json", tokenizer_args=keywords, max_seq_length=None)
    pair = export(folder)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == 16
        assert embedder.manifest.truncation_side == "left"
    assert_agrees(pair, [*TEXTS, "a LAZY dog " * 40 + "London"])


def test_no_room_for_text_besides_special_tokens(folder: Path) -> None:
    change_json(folder / "sentence_bert_config.json", max_seq_length=1)
    with pytest.raises(UnsupportedModelError, match="to 1 tokens, and the tokenizer adds 2"):
        export(folder)


def test_tokenizer_with_dropout(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "roberta")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["dropout"] = 0.1
    write_json(folder / "tokenizer.json", content)
    with pytest.raises(UnsupportedModelError, match="set dropout to null"):
        export(folder)


def test_tokenizer_with_custom_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No code of it runs, and the user is not asked for permission."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    (folder / "theirs.py").write_text("raise SystemExit\n", encoding="utf-8")
    change_json(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["theirs.Tokens", None]},
        tokenizer_class="Tokens",
    )
    if hasattr(
        PreTrainedTokenizerFast, "convert_to_native_format"
    ):  # transformers 5 uses its own class
        assert_agrees(export(folder), TEXTS)
        return
    with pytest.raises(UnsupportedModelError, match="code of the model's author"):
        export(folder)


def test_tokenizer_that_fails_on_a_text(folder: Path) -> None:
    """It accepts the first text that the export tries, but not the characters of another."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    del content["model"]["vocab"]["[UNK]"]
    write_json(folder / "tokenizer.json", content)
    with pytest.raises(UnsupportedModelError, match=r"fails on the text .*WordPiece error"):
        export(folder)
