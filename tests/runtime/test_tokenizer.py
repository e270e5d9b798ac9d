"""Tests that token ids equal those of the tokenizers library, whatever the length of the text."""

from __future__ import annotations

import string
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from embedrt.bundle.manifest import Side
from embedrt.bundle.reader import TOKENIZER
from embedrt.errors import BundleCorruptError, BundleFormatError
from embedrt.text.inputs import as_batch
from embedrt.text.tokenizer import BLOCK, CHARACTERS_PER_TOKEN, CUT_MARGIN, Tokenizer
from odd_texts import LISTS, plainly_well_formed

MAX_TOKENS = 24
FIRST_CUT = MAX_TOKENS * CHARACTERS_PER_TOKEN + CUT_MARGIN
TRAINING_TEXTS = [
    "the quick brown fox jumps over the lazy dog, again and again and again",
    "naïve façade, Быстрая лиса, 敏捷的棕色狐狸, banana bandana, aaaa aaaaaa haha",
]
KINDS = ["wordpiece", "bpe", "unigram"]

# Pieces that are repeated to make texts longer than the first slice, and concatenated.
PIECES = [
    "the lazy dog ",
    "a",
    "ab",
    "ha",
    "banana",
    "敏捷的棕色狐狸",
    " ",
    "\n\t",
    "!",
    "...,",
    "\u0301",
    "e\u0301",
    "\u200d😀",
    "\x00",
    "\ufffd",
    "[SEP]",
    "x" * 101 + " ",
    string.ascii_letters,
]
LONG_TEXTS = st.lists(
    st.tuples(st.sampled_from(PIECES), st.integers(1, 3 * FIRST_CUT)), min_size=1, max_size=5
).map(lambda parts: "".join((piece * count)[:count] for piece, count in parts))


def save_trained(path: Path, kind: str) -> None:
    """Save a small tokenizer with two special tokens, of a kind other than MiniLM's."""
    special = ["<unk>", "<s>", "</s>"]
    trainer: trainers.Trainer
    if kind == "unigram":
        tokenizer = FastTokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        tokenizer = FastTokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(TRAINING_TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.save(str(path))


@pytest.fixture(scope="module")
def files(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tokenizer.json of each kind."""
    folder = tmp_path_factory.mktemp("tokenizers")
    files = {kind: folder / f"{kind}.json" for kind in KINDS}
    for kind in ("bpe", "unigram"):
        save_trained(files[kind], kind)
    return {**files, "wordpiece": minilm / TOKENIZER}


def plain(file: Path, side: Side = "right", max_tokens: int = MAX_TOKENS) -> FastTokenizer:
    """Return the library's own tokenizer, which truncates the full text."""
    tokenizer = FastTokenizer.from_file(str(file))
    tokenizer.enable_truncation(max_tokens, direction=side)
    return tokenizer


@cache
def loaded(file: Path, side: Side) -> tuple[Tokenizer, FastTokenizer]:
    """Return our tokenizer and the library's own: examples share them, as loading takes longer."""
    return Tokenizer(file, max_tokens=MAX_TOKENS, truncation_side=side), plain(file, side)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(texts=st.lists(LONG_TEXTS | st.text(max_size=40), min_size=1, max_size=3))
@example(texts=["building " * 20 + "x" * 5000])  # a slice begins within a word that is too long
@example(texts=["e\u0301" * 56 + "\x00" * 1016 + "e\u0301" * 45])  # one word: the rest is dropped
def test_ids_are_those_of_the_whole_text(
    files: dict[str, Path], kind: str, side: Side, texts: list[str]
) -> None:
    tokenizer, reference = loaded(files[kind], side)
    expected = [reference.encode(text).ids for text in texts]
    assert [ids.tolist() for ids in tokenizer.batch_ids(texts)] == expected
    assert tokenizer.ids(texts[0]).tolist() == expected[0]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(texts=LISTS)
def test_ids_of_odd_texts(files: dict[str, Path], kind: str, side: Side, texts: list[str]) -> None:
    tokenizer, reference = loaded(files[kind], side)
    expected = [reference.encode(plainly_well_formed(text)).ids for text in texts]
    assert [ids.tolist() for ids in tokenizer.batch_ids(as_batch(texts))] == expected


def test_ids_of_more_texts_than_a_block(files: dict[str, Path]) -> None:
    """The texts include short ones, and long ones of which few or many characters are needed."""
    texts = [f"text {number} " * (number * 5 % 500) for number in range(2 * BLOCK + 5)]
    texts[3] = texts[BLOCK] = "x" * 20_000 + " dog"
    for kind, file in files.items():
        reference = plain(file)
        expected = [reference.encode(text).ids for text in texts]
        found = Tokenizer(file, max_tokens=MAX_TOKENS).batch_ids(texts)
        assert [ids.tolist() for ids in found] == expected, kind
    assert Tokenizer(file, max_tokens=MAX_TOKENS).batch_ids([]) == []


@pytest.mark.parametrize("length", [FIRST_CUT + extra for extra in (-1, 0, 1, 2, 3, 500, 501, 502)])
def test_a_word_is_segmented_as_a_whole(tmp_path: Path, length: int) -> None:
    """In a run of "a", the position of the shorter piece depends on the end of the word."""
    pieces = [("<unk>", 0.0), ("▁", -2.0), ("a", -3.0), ("aa", -2.0), ("aaa", -1.0)]
    weighing = FastTokenizer(models.Unigram(pieces, 0, byte_fallback=False))
    weighing.pre_tokenizer = pre_tokenizers.Metaspace()
    file = tmp_path / TOKENIZER
    weighing.save(str(file))
    text = "a" * length
    ids = Tokenizer(file, max_tokens=MAX_TOKENS).ids(text)
    assert ids.tolist() == plain(file).encode(text).ids


def test_merges_reach_back_over_what_is_dropped(tmp_path: Path) -> None:
    """The last letter merges with the "d" of "cd", whose "c" then merges with the "b" of "ab"."""
    merges = [("d", "e"), ("c", "d"), ("b", "c"), ("a", "b")]
    vocabulary = {piece: place for place, piece in enumerate([*"xabcde", *map("".join, merges)])}
    merging = FastTokenizer(models.BPE(vocabulary, merges))
    merging.normalizer = normalizers.Nmt()
    file = tmp_path / TOKENIZER
    merging.save(str(file))
    text = "xxxabcd" + "\x00" * 2000
    tokenizer = Tokenizer(file, max_tokens=4)
    assert tokenizer.ids(text).tolist() == [0, 0, 0, vocabulary["ab"]]
    assert tokenizer.ids(text + "e").tolist() == [0, 0, 0, vocabulary["a"]]
    assert tokenizer.batch_ids([text + "e"])[0].tolist() == [0, 0, 0, vocabulary["a"]]


def test_settings_inside_the_file_are_not_trusted(files: dict[str, Path], tmp_path: Path) -> None:
    padding = plain(files["wordpiece"], max_tokens=4)
    padding.enable_padding(length=128)
    padding.save(str(tmp_path / TOKENIZER))
    tokenizer = Tokenizer(tmp_path / TOKENIZER, max_tokens=MAX_TOKENS)
    assert len(tokenizer.ids("one two three four five")) == 7
    assert tokenizer.count("one two three four five") == 7


def test_count_is_before_truncation(files: dict[str, Path]) -> None:
    tokenizer = Tokenizer(files["wordpiece"], max_tokens=MAX_TOKENS)
    assert tokenizer.count("") == 2
    assert tokenizer.count("dog " * 1000) == 1002
    assert len(tokenizer.ids("dog " * 1000)) == MAX_TOKENS


def test_max_tokens_without_room_for_the_special_ones(files: dict[str, Path]) -> None:
    assert len(Tokenizer(files["wordpiece"], max_tokens=2).ids("dog")) == 2
    with pytest.raises(BundleFormatError, match=r"max_tokens is 1.*2 special tokens"):
        Tokenizer(files["wordpiece"], max_tokens=1)


def test_dropout_is_refused(tmp_path: Path) -> None:
    save_trained(tmp_path / TOKENIZER, "bpe")
    dropping = FastTokenizer.from_file(str(tmp_path / TOKENIZER))
    model: models.BPE = dropping.model
    model.dropout = 0.5
    assert len({tuple(dropping.encode(TRAINING_TEXTS[0]).ids) for _ in range(20)}) > 1
    dropping.save(str(tmp_path / TOKENIZER))
    with pytest.raises(BundleFormatError, match=r"dropout 0\.5.*export again"):
        Tokenizer(tmp_path / TOKENIZER, max_tokens=MAX_TOKENS)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"model": {"type": "WordLevel"}}', b"\xff"]
)
def test_invalid_tokenizers(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TOKENIZER).write_bytes(content)
    with pytest.raises(BundleCorruptError, match=r"tokenizer\.json is not a tokenizer .* again"):
        Tokenizer(tmp_path / TOKENIZER, max_tokens=MAX_TOKENS)


def test_many_threads_encode_and_count_at_once(files: dict[str, Path]) -> None:
    tokenizer = Tokenizer(files["wordpiece"], max_tokens=MAX_TOKENS)
    texts = [f"text {number} " * number for number in range(1, 30)]
    expected = [plain(files["wordpiece"]).encode(text).ids for text in texts]
    counts = [2 + 2 * number for number in range(1, 30)]

    def work(_task: int) -> Iterator[bool]:
        for _ in range(5):
            yield [ids.tolist() for ids in tokenizer.batch_ids(texts)] == expected
            yield [tokenizer.count(text) for text in texts] == counts

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(lambda task: all(work(task)), range(32)))
    assert all(outcomes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("character", ["a", " ", "!", "中", "é"])
def test_one_character_many_times(files: dict[str, Path], kind: str, character: str) -> None:
    text = character * 200_000
    ids = Tokenizer(files[kind], max_tokens=MAX_TOKENS).ids(text)
    assert ids.tolist() == plain(files[kind]).encode(text).ids
