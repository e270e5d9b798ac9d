"""Tests that texts of every kind and length get an embedding, or fail alone with a named index."""

from __future__ import annotations

import gc
import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from embedrt import Embedder
from embedrt.bundle.reader import TOKENIZER
from embedrt.errors import OverlongTextError, TextError, TokenizationError
from embedrt.request import STREAM_BLOCK
from embedrt.text.tokenizer import BLOCK, MOST_CHARACTERS, Tokenizer
from odd_texts import LISTS, plainly_well_formed
from tiny_bundle import make_tiny, tiny_tokenizer

MEGABYTE = 1 << 20

# Whitespace in Python but not in Unicode.
NO_SPACES = dict.fromkeys(range(0x1C, 0x20), "x")

# The pattern takes twice as long for each additional letter, until the library panics.
PANICKING = "a" * 40 + "b"
PANIC = "Onig: Regex search error: retry-limit-in-match over"


def panicking_tokenizer() -> FastTokenizer:
    """Return the tiny bundle's tokenizer with a pattern that panics on `PANICKING`."""
    tokenizer = tiny_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [tokenizer.pre_tokenizer, pre_tokenizers.Split(Regex("(a+)+$"), "isolated")]
    )
    return tokenizer


def refusing_tokenizer() -> FastTokenizer:
    """Return a tokenizer that fails on any word other than ``w0`` to ``w9``."""
    vocabulary = {f"w{number}": number for number in range(10)}
    tokenizer = FastTokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.fixture
def breaking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedder]:
    """The tiny bundle, whose vectors count words, with the tokenizer that panics."""
    monkeypatch.setattr("tiny_bundle.tiny_tokenizer", panicking_tokenizer)
    with Embedder.load(make_tiny(tmp_path / "breaking"), threads=2) as embedder:
        yield embedder


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    """The tokenizer that panics, without a bundle."""
    panicking_tokenizer().save(str(tmp_path / TOKENIZER))
    return Tokenizer(tmp_path / TOKENIZER, max_tokens=8)


def run(code: str, *arguments: object) -> Any:
    """Run code in a new process; return the JSON that it prints."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    outcome = subprocess.run(
        command, capture_output=True, text=True, timeout=500, check=False, encoding="utf-8"
    )
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout)


def streaming(embedder: Embedder) -> Callable[[list[str]], list[Any]]:
    """Return a function that returns all blocks of `embed_stream`."""
    return lambda texts: list(embedder.embed_stream(iter(texts)))


def check_alone_and_together(embedder: Embedder, texts: list[str]) -> None:
    """Compare with one text per call, made well-formed by the slow reference."""
    together = embedder.encode(texts)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        assert embedder.encode(plainly_well_formed(text)).tobytes() == vector.tobytes()


class TestAnyText:
    @settings(max_examples=12, suppress_health_check=list(HealthCheck))
    @given(texts=LISTS)
    def test_alone_and_together(self, embedder: Embedder, texts: list[str]) -> None:
        check_alone_and_together(embedder, texts)

    @pytest.mark.slow
    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(texts=LISTS)
    def test_many_more_alone_and_together(self, embedder: Embedder, texts: list[str]) -> None:
        check_alone_and_together(embedder, texts)

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(texts=LISTS)
    def test_streamed(self, tiny_embedder: Embedder, texts: list[str]) -> None:
        """The tiny bundle counts words, with a maximum of 8."""
        (streamed,) = tiny_embedder.embed_stream(iter(texts))
        words = [len(plainly_well_formed(text).translate(NO_SPACES).split()) for text in texts]
        assert streamed.sum(axis=1).tolist() == [min(count, 8) for count in words]

    def test_the_strategy_covers_odd_texts(self) -> None:
        """The strategy generates the kinds of texts that it is meant to."""
        seen: set[str] = set()

        @settings(max_examples=100, database=None, suppress_health_check=list(HealthCheck))
        @given(texts=LISTS)
        def collect(texts: list[str]) -> None:
            seen.update(texts)

        collect()
        assert len(seen) >= 1500
        everything = "\n".join(seen)
        for piece in ("[CLS]", "<s>", "</s>", "\x00", "\ufeff", "\u200d", "\u202e", "שלום"):
            assert piece in everything
        assert any("\ud800" <= character <= "\udfff" for character in everything)
        assert any("\u0301" * 20 in text for text in seen)
        assert "" in seen


class TestLengths:
    @pytest.mark.parametrize("characters", [0, 1, 2, 10, 100, 1_000, 10_000, 100_000, 10**6, 10**7])
    def test_from_empty_to_ten_megabytes(self, embedder: Embedder, characters: int) -> None:
        text = ("the lazy dog, " * (characters // 14 + 1))[:characters]
        vectors = embedder.encode([text, "another", text])
        assert (
            vectors[0].tobytes() == vectors[2].tobytes() == embedder.encode(text[:2000]).tobytes()
        )

    def test_a_word_a_million_times(self, embedder: Embedder) -> None:
        vector = embedder.encode("dog " * 1_000_000)
        assert vector.tobytes() == embedder.encode("dog " * 254).tobytes()

    def test_a_word_a_million_times_without_a_space(self, embedder: Embedder) -> None:
        """To WordPiece, it is one unknown word."""
        vector = embedder.encode("dog" * 1_000_000)
        assert vector.tobytes() == embedder.encode("[UNK]").tobytes()

    @pytest.mark.parametrize("text", [" ", "\n", "\x00", "\u0301", "\u200b"])
    def test_a_million_invisible_characters(self, embedder: Embedder, text: str) -> None:
        assert embedder.encode(text * 1_000_000).tobytes() == embedder.encode("").tobytes()

    @pytest.mark.parametrize(
        ("side", "read"),
        [("right", slice(None, MOST_CHARACTERS)), ("left", slice(-MOST_CHARACTERS, None))],
    )
    def test_only_the_first_million_characters_are_read(
        self, minilm: Path, side: Any, read: slice
    ) -> None:
        tokenizer = Tokenizer(minilm / TOKENIZER, max_tokens=64, truncation_side=side)
        start, end = "dog " * 20, " fox" * 20
        text = start + " " * MOST_CHARACTERS + end
        (ids,) = tokenizer.batch_ids([text])
        assert ids.tolist() == tokenizer.ids(text).tolist() == tokenizer.ids(text[read]).tolist()
        assert ids.tolist() == tokenizer.ids(start if side == "right" else end).tolist()
        inside = start + " " * (MOST_CHARACTERS - len(start + end)) + end
        assert len(tokenizer.ids(inside)) == 42

    def test_unread_text_is_reported(self, minilm: Path) -> None:
        text = "dog" + " " * MOST_CHARACTERS + "fox"
        message = (
            "text is too long: it has 1,000,006 characters, and this model takes 256 tokens. "
            f"It starts 'dog{' ' * 37}…'. Split it, or load with overlong='truncate'"
        )
        with (
            Embedder.load(minilm, overlong="error") as embedder,
            pytest.raises(OverlongTextError) as caught,
        ):
            embedder.encode(text)
        assert str(caught.value) == message


# ru_maxrss of a new process would begin with the peak of its parent.
MEMORY_OF_ONE = """
import json, sys
from pathlib import Path
from embedrt.bench.memory import peak_bytes as peak
from embedrt.text.tokenizer import Tokenizer

path, side, piece, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
tokenizer = Tokenizer(path, max_tokens=256, truncation_side=side)
tokenizer.batch_ids(["the lazy dog"] * 2)
text = piece * count
before = peak()
tokenizer.batch_ids([text])
print(json.dumps(peak() - before))
"""

MEMORY_OF_MANY = """
import json, sys
from pathlib import Path
from embedrt import Embedder
from embedrt.bench.memory import peak_bytes as peak

def texts(start, stop):
    return (f"w{number % 10} {number}" for number in range(start, stop))

count = int(sys.argv[2])
with Embedder.load(sys.argv[1], threads=2) as embedder:
    rows = sum(len(block) for block in embedder.embed_stream(texts(0, 20_000)))
    before = peak()
    rows += sum(len(block) for block in embedder.embed_stream(texts(20_000, count)))
print(json.dumps([rows, peak() - before]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak")
class TestMemory:
    @pytest.mark.parametrize(
        ("side", "piece"), [("right", "the lazy dog, "), ("right", "a"), ("left", "the lazy dog, ")]
    )
    def test_of_ten_megabytes(self, minilm: Path, side: str, piece: str) -> None:
        """Tokenized completely, the text would take 600 MB to 1 GB."""
        count = 10_000_000 // len(piece)
        assert run(MEMORY_OF_ONE, minilm / TOKENIZER, side, piece, count) < 300 * MEGABYTE

    def test_of_a_window_of_long_texts(self, minilm: Path) -> None:
        """The encodings of all texts together would take 250 MB."""
        code = MEMORY_OF_ONE.replace("batch_ids([text])", f"batch_ids([text] * {STREAM_BLOCK})")
        assert run(code, minilm / TOKENIZER, "right", "the lazy dog, ", 1000) < 120 * MEGABYTE

    @pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
    def test_of_short_texts_streamed(self, tiny: Path, count: int) -> None:
        rows, grown = run(MEMORY_OF_MANY, tiny, count)
        assert rows == count
        assert grown < 32 * MEGABYTE


class TestTokenizerBreaks:
    """The real library panics, in native code."""

    def test_it_is_a_panic(self) -> None:
        """Without this, the tests below could pass without a panic."""
        with pytest.raises(BaseException, match=PANIC) as caught:
            panicking_tokenizer().encode_batch_fast(["w1", PANICKING])
        assert not isinstance(caught.value, Exception)

    @pytest.mark.parametrize("place", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7])
    def test_place_among_the_texts(self, tokenizer: Tokenizer, place: int) -> None:
        texts = ["w1"] * (4 * BLOCK)
        texts[place] = PANICKING
        with pytest.raises(TokenizationError) as caught:
            tokenizer.batch_ids(texts)
        assert caught.value.index == place

    @pytest.mark.parametrize("place", [0, STREAM_BLOCK - 1, STREAM_BLOCK, 2 * STREAM_BLOCK + 300])
    def test_place_in_the_call(self, breaking: Embedder, place: int) -> None:
        texts = [f"w{number % 10} w{number % 7}" for number in range(2 * STREAM_BLOCK + 500)]
        expected = breaking.encode(texts)
        broken = texts.copy()
        broken[place] = PANICKING
        for method in (breaking.encode, breaking.encode_query, streaming(breaking)):
            with pytest.raises(TokenizationError) as caught:
                method(broken)
            assert caught.value.index == place
            assert str(caught.value).startswith(f"texts[{place}] breaks the tokenizer")
            assert breaking.encode(texts).tobytes() == expected.tobytes()

    def test_place_among_repeated_texts(self, breaking: Embedder) -> None:
        with pytest.raises(TokenizationError, match=r"^texts\[3\] breaks"):
            breaking.encode(["w1", "w1", "w2", PANICKING, "w1", PANICKING])

    def test_message(self, breaking: Embedder) -> None:
        message = (
            f"texts[1] breaks the tokenizer ({PANIC}): it has 44 characters and starts "
            f"'w1 {'a' * 37}…'. Leave it out or change it"
        )
        with pytest.raises(TokenizationError) as caught:
            breaking.encode(["w1", f"w1 {PANICKING}"])
        assert str(caught.value) == message
        assert isinstance(caught.value, ValueError)
        with pytest.raises(TokenizationError) as caught:
            breaking.encode(f"w1 {PANICKING}")
        assert caught.value.index is None
        assert str(caught.value) == message.replace("texts[1]", "text")

    def test_a_prompt_does_not_hide_it(self, breaking: Embedder) -> None:
        with pytest.raises(TokenizationError, match=r"^texts\[1\] breaks .* starts 'w3 aaa"):
            breaking.encode(["w1", PANICKING], prompt="w3 ")

    def test_a_long_text(self, breaking: Embedder) -> None:
        """Embedding reads only the beginning of a text, counting reads all of it."""
        text = "w1 " * 10_000 + PANICKING
        assert breaking.encode(["w1", text]).sum(axis=1).tolist() == [1, 8]
        with pytest.raises(TokenizationError, match=r"^texts\[1\] breaks .* has 30,041 characters"):
            breaking.count_tokens(["w1", text])
        with pytest.raises(TokenizationError, match=r"^text breaks the tokenizer"):
            breaking.count_tokens(text)
        with pytest.raises(TokenizationError, match=r"^texts\[0\] breaks"):
            breaking.encode([PANICKING + " " + "w1 " * 10_000])

    def test_counting_for_the_overlong(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tiny_bundle.tiny_tokenizer", panicking_tokenizer)
        bundle = make_tiny(tmp_path / "breaking")
        with (
            Embedder.load(bundle, overlong="error") as embedder,
            pytest.raises(TokenizationError, match=r"^texts\[1\] breaks"),
        ):
            embedder.encode(["w1", "w1 " * 10_000 + PANICKING])

    def test_other_threads_are_not_affected(self, breaking: Embedder) -> None:
        texts = [f"w{number % 10} " * (number % 8) for number in range(300)]
        expected = breaking.encode(texts).tobytes()

        def work(task: int) -> bool:
            if task % 3:
                return breaking.encode(texts).tobytes() == expected
            with pytest.raises(TokenizationError, match=r"^texts\[300\] breaks"):
                breaking.encode([*texts, PANICKING])
            return True

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(24)))

    def test_a_refusal_is_named_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tiny_bundle.tiny_tokenizer", refusing_tokenizer)
        with Embedder.load(make_tiny(tmp_path / "refusing")) as embedder:
            with pytest.raises(TokenizationError) as caught:
                embedder.encode(["w1", "w2", "unheard-of", "w3"])
            assert embedder.encode("w2 w2")[2] == 2
        assert str(caught.value) == (
            "texts[2] breaks the tokenizer (WordLevel error: Missing [UNK] token from the "
            "vocabulary): it has 10 characters and starts 'unheard-of'. Leave it out or change it"
        )

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer's signal")
    def test_an_exception_from_a_signal_is_not_mistaken_for_it(self, minilm: Path) -> None:
        class Alarm(Exception):  # noqa: N818 -- not an error
            pass

        def ring(*_signal: object) -> None:
            raise Alarm

        tokenizer = Tokenizer(minilm / TOKENIZER, max_tokens=256)
        texts = ["the lazy dog, " * 200] * (40 * BLOCK)  # several seconds
        previous = signal.signal(signal.SIGALRM, ring)
        gc.disable()  # an exception in a callback of the garbage collector is dropped
        try:
            with pytest.raises(Alarm):  # noqa: PT012 - the alarm may ring before the texts
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                tokenizer.batch_ids(texts)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            gc.enable()
        assert len(tokenizer.ids("dog")) == 3

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of threads")
    def test_without_threads(self, tmp_path: Path) -> None:
        """The library's thread pool would panic at every batch; single texts need no threads."""
        tiny_tokenizer().save(str(tmp_path / TOKENIZER))
        code = """
import json, os, resource, sys
from pathlib import Path
from embedrt.text.tokenizer import Tokenizer

os.environ["RAYON_NUM_THREADS"] = "4"
tokenizer = Tokenizer(Path(sys.argv[1]), max_tokens=8)
if os.getuid() == 0:
    os.setuid(65534)  # no limit holds for root
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
print(json.dumps([ids.tolist() for ids in tokenizer.batch_ids(["w1 w2", "w3"] * 2)]))
"""
        assert run(code, tmp_path / TOKENIZER) == [[1, 2], [3]] * 2


def test_errors_of_texts_are_pickled(tokenizer: Tokenizer) -> None:
    """A process pool returns errors by pickle."""
    with pytest.raises(TextError) as caught:
        tokenizer.ids(PANICKING, 7)
    copy = pickle.loads(pickle.dumps(caught.value.at(2055)))
    assert type(copy) is TokenizationError
    assert copy.index == 2055
    assert str(copy) == str(caught.value).replace("texts[7]", "texts[2055]")


class TestOverlong:
    OVER = "w2 " * 9

    @pytest.mark.parametrize("place", [0, 1, STREAM_BLOCK, STREAM_BLOCK + 5])
    def test_the_first_is_named(self, tiny: Path, place: int) -> None:
        texts = [f"w{number % 10}" for number in range(STREAM_BLOCK + 10)]
        texts[place] = texts[-1] = self.OVER
        message = (
            f"texts[{place}] is too long: it has 9 tokens, and this model takes 8 tokens. It "
            "starts 'w2 w2 w2 w2 w2 w2 w2 w2 w2 '. Split it, or load with overlong='truncate'"
        )
        with Embedder.load(tiny, overlong="error") as embedder:
            for method in (embedder.encode, streaming(embedder)):
                with pytest.raises(OverlongTextError) as caught:
                    method(texts)
                assert str(caught.value) == message
                assert caught.value.index == place
            with pytest.raises(OverlongTextError) as caught:
                embedder.encode(self.OVER)
            assert str(caught.value) == message.replace(f"texts[{place}]", "text")
