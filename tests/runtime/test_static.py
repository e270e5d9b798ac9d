"""Static bundles in the engine: texts run as soon as they are tokenized, and like any other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers

from embedrt import Embedder, Manifest
from embedrt.engine.at_once import TOKENS_AT_ONCE, TOKENS_PER_RUN, run_by_length
from embedrt.errors import (
    BundleFormatError,
    ClosedError,
    OverloadedError,
    OverlongTextError,
    TokenizationError,
)
from embedrt.text.tokenizer import BLOCK_CHARACTERS, TokenIds, Tokenizer
from tiny_bundle import (
    WORDS,
    keepdims,
    make_tiny,
    model,
    node,
    tensor,
    tiny_manifest,
    tiny_tokenizer,
)

MAX_TOKENS = 2000


@pytest.fixture
def static(tmp_path: Path) -> Path:
    """The tiny bundle, which counts words, as a static model."""
    return make_tiny(tmp_path / "static", family="static", max_tokens=MAX_TOKENS)


@pytest.fixture(params=[1, 3])
def embedder(static: Path, request: pytest.FixtureRequest) -> Iterator[Embedder]:
    with Embedder.load(static, threads=request.param) as loaded:
        yield loaded


def counts_of(text: str) -> NDArray[np.float32]:
    """What the bundle gives."""
    ids = [int(word[1:]) for word in text.split()]
    return np.bincount(ids, minlength=WORDS).astype(np.float32)


def some_texts(count: int, *, longest: int = 40, seed: int = 0) -> list[str]:
    """Distinct texts of all lengths, from no words."""
    rng = np.random.default_rng(seed)
    return [
        " " * index + " ".join(f"w{word}" for word in rng.integers(0, WORDS, rng.integers(longest)))
        for index in range(count)
    ]


def check(embedder: Embedder, texts: Sequence[str]) -> None:
    assert np.array_equal(embedder.encode(texts), np.stack([counts_of(text) for text in texts]))


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    lengths=st.lists(st.integers(0, 9) | st.integers(0, 1200), min_size=1, max_size=60),
    batch_size=st.none() | st.integers(1, 5),
)
def test_run_by_length(lengths: list[int], batch_size: int | None) -> None:
    """Every text once, in batches of one length that are no larger than asked for."""
    ids = [np.full(length, index) for index, length in enumerate(lengths)]
    ran: list[tuple[int, ...]] = []

    def run(batch: NDArray[np.int64]) -> NDArray[np.float32]:
        ran.append(batch.shape)
        first = batch[:, 0] if batch.shape[1] else np.full(len(batch), -1)
        return np.stack([first, np.full(len(batch), batch.shape[1])], axis=1).astype(np.float32)

    result = run_by_length(run, ids, 2, batch_size)
    expected = [[index if length else -1, length] for index, length in enumerate(lengths)]
    assert result.vectors.tolist() == expected
    assert result.token_counts.tolist() == lengths
    assert result.batches == len(ran)
    for texts, tokens in ran:
        assert texts <= (batch_size or texts)
        assert texts == 1 or texts * tokens <= TOKENS_PER_RUN


def test_many_texts(embedder: Embedder) -> None:
    texts = some_texts(5000)
    check(embedder, texts)
    stats = embedder.stats()
    assert stats.texts == 5000
    assert stats.tokens == sum(len(text.split()) for text in texts)
    assert stats.waiting_texts == stats.waiting_tokens == 0
    assert 0 < stats.batches < 5000
    assert stats.run_seconds > 0


def test_one_text_and_none(embedder: Embedder) -> None:
    assert embedder.encode("w1 w1 w2").tolist() == counts_of("w1 w1 w2").tolist()
    assert embedder.encode([]).shape == (0, WORDS)
    check(embedder, ["", "w3", " "])
    check(embedder, ["w1", "w2 w2", "w1", "w1"])


def test_texts_of_no_tokens_run(tmp_path: Path) -> None:
    """What they give is for the graph to say, and zeros where the graph has an encoder."""
    graph = model(
        (1, node("Gather", ["table", "input_ids"], "rows")),
        (1, node("ReduceSum", ["rows", "axes"], "sum", (5, keepdims(0)))),
        (1, node("Add", ["sum", "one"], "embedding")),
        (5, tensor("table", np.eye(WORDS, dtype=np.float32))),
        (5, tensor("axes", np.array([1]))),
        (5, tensor("one", np.ones(1, np.float32))),
    )
    bundle = make_tiny(tmp_path / "static", family="static", graph=graph)
    with Embedder.load(bundle) as embedder:
        assert embedder.encode(["", "w1"])[0].tolist() == [1.0] * WORDS
    with Embedder.load(make_tiny(tmp_path / "other", graph=graph)) as embedder:
        assert embedder.encode(["", "w1"])[0].tolist() == [0.0] * WORDS


def test_batch_size(static: Path) -> None:
    with Embedder.load(static, threads=1) as embedder:
        texts = [f"w{i % WORDS} " + "w1 " * (i // WORDS) for i in range(60)]
        embedder.encode(texts)
        few = embedder.stats().batches
        embedder.encode(texts, batch_size=1)
        assert embedder.stats().batches == few + 60


def test_many_callers(embedder: Embedder) -> None:
    failures: list[BaseException] = []

    def call(seed: int) -> None:
        try:
            for count in (1, 1, 300, 1, 40):
                check(embedder, some_texts(count, seed=seed))
        except BaseException as error:  # noqa: BLE001  # reported below
            failures.append(error)

    threads = [threading.Thread(target=call, args=[seed]) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_in_asyncio_and_in_a_stream(embedder: Embedder) -> None:
    texts = some_texts(3000)
    expected = np.stack([counts_of(text) for text in texts])

    async def embed() -> None:
        found = await asyncio.gather(*(embedder.aencode(texts[i::7]) for i in range(7)))
        for start, part in enumerate(found):
            assert np.array_equal(part, expected[start::7])
        one = await embedder.aembed(texts)
        assert one.token_counts.tolist() == [len(text.split()) for text in texts]

    asyncio.run(embed())
    assert np.array_equal(np.concatenate([*embedder.embed_stream(iter(texts))]), expected)


def test_progress(embedder: Embedder, capsys: pytest.CaptureFixture[str]) -> None:
    embedder.encode(some_texts(3000), show_progress_bar=True)
    assert "3.00k/3.00k" in capsys.readouterr().err


def test_close_and_overload(static: Path) -> None:
    embedder = Embedder.load(static, threads=1, max_waiting_tokens=10)
    check(embedder, some_texts(3000))  # an idle one takes any call

    tokenize, all_there = embedder._engine._tokenize_texts, threading.Event()

    def waits(texts: Sequence[str]) -> list[TokenIds]:
        assert all_there.wait(60)
        return tokenize(texts)

    async def crowd() -> list[object]:
        embedder._engine._tokenize_texts = waits
        calls = [embedder.aencode(some_texts(3000, seed=seed)) for seed in range(8)]
        crowded = asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0)
        all_there.set()
        return list(await crowded)

    outcomes = asyncio.run(crowd())
    assert any(isinstance(outcome, OverloadedError) for outcome in outcomes)
    assert any(isinstance(outcome, np.ndarray) for outcome in outcomes)
    embedder.close()
    with pytest.raises(ClosedError):
        embedder.encode("w1")


class TestErrors:
    def test_a_text_that_breaks_the_tokenizer(self, tmp_path: Path) -> None:
        """It ends its own call, with its index, and no other."""
        bundle = make_tiny(tmp_path / "static", family="static", max_tokens=MAX_TOKENS)
        refusing = FastTokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, "[UNK]"))
        refusing.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        texts = some_texts(2500)
        with Embedder.load(bundle, threads=2) as embedder:
            embedder._engine._tokenize_texts = _tokenizer(tmp_path, refusing).batch_ids
            with pytest.raises(TokenizationError, match=r"^texts\[2100\] breaks the tokenizer"):
                embedder.encode([*texts[:2100], "unheard-of", *texts[2100:]])
            check(embedder, texts)

    def test_overlong(self, static: Path) -> None:
        with Embedder.load(static, overlong="error", threads=2) as embedder:
            texts = [*some_texts(1200), "w1 " * (MAX_TOKENS + 1)]
            with pytest.raises(OverlongTextError, match=r"^texts\[1200\] is too long"):
                embedder.encode(texts)
            check(embedder, texts[:-1])

    def test_a_graph_that_fails_for_one_text(self, tmp_path: Path) -> None:
        """The table has 9 rows: word 9 fails, and its call alone."""
        table = np.eye(WORDS, dtype=np.float32)[:9]
        bundle = make_tiny(tmp_path / "static", family="static", table=table)
        with Embedder.load(bundle, threads=2) as embedder:

            async def embed() -> list[object]:
                calls = [embedder.aencode(texts) for texts in (["w1", "w9"], ["w2", "w1 w1"])]
                return list(await asyncio.gather(*calls, return_exceptions=True))

            failed, whole = asyncio.run(embed())
            assert isinstance(failed, Exception)
            assert isinstance(whole, np.ndarray)
            assert whole.sum(axis=1).tolist() == [1, 2]


class TestCharacters:
    """Texts that are cut by their characters before they are tokenized."""

    @pytest.mark.parametrize("side", ["right", "left"])
    def test_cut(self, tmp_path: Path, side: str) -> None:
        cut = make_tiny(tmp_path / "cut", max_characters=11, truncation_side=side)
        words = [f"w{i}" for i in range(WORDS)]
        kept = words[:4] if side == "right" else words[-4:]
        with Embedder.load(cut, threads=1) as embedder:
            for texts in ([" ".join(words)], ["w1", " ".join(words), "w2 w2"]):
                found = embedder.encode(texts)
                assert np.array_equal(found[len(texts) // 2], counts_of(" ".join(kept)))
            assert embedder.encode(" ".join(words)).tolist() == found[1].tolist()
            assert len(embedder.tokenize(" ".join(words))[0]) == 4

    def test_overlong(self, tmp_path: Path) -> None:
        cut = make_tiny(tmp_path / "cut", max_characters=11)
        with Embedder.load(cut, overlong="error") as embedder:
            embedder.encode("w1 w2 w3 w4")
            with pytest.raises(OverlongTextError, match=r"it has 12 characters, .* 11 characters"):
                embedder.encode("w1 w2 w3 w4 ")

    def test_manifest(self) -> None:
        """Left out where there is no limit, so that older readers read other bundles."""
        assert "max_characters" not in tiny_manifest().to_json()
        manifest = tiny_manifest(max_characters=7)
        assert Manifest.from_json(manifest.to_json()) == manifest
        for value in (0, -1):
            with pytest.raises(BundleFormatError, match=r"max_characters is .*; expected at least"):
                Manifest.from_json(tiny_manifest(max_characters=value).to_json())


def test_long_texts_are_tokenized_in_small_blocks(tmp_path: Path) -> None:
    """An encoding takes hundreds of bytes a character."""
    tokenizer = _tokenizer(tmp_path, tiny_tokenizer())
    sizes: list[int] = []
    truncating = tokenizer._truncating

    class Watched:
        def encode_batch_fast(self, texts: list[str], **options: bool) -> object:
            sizes.append(sum(map(len, texts)))
            return truncating.encode_batch_fast(texts, **options)

    tokenizer._truncating = Watched()  # type: ignore[assignment]
    texts = ["w1 " * (BLOCK_CHARACTERS // 10)] * 17 + ["w2"] * 90
    ids = tokenizer.batch_ids(texts)
    assert max(sizes) <= BLOCK_CHARACTERS
    assert [len(row) for row in ids] == [BLOCK_CHARACTERS // 10] * 17 + [1] * 90


def test_a_call_is_shared_among_workers(static: Path) -> None:
    """All of them tokenize at once; none takes more than its share."""
    with Embedder.load(static, threads=3) as embedder:
        queue = embedder._engine._queue
        assert queue.useful_workers() == 0
        embedder.encode(some_texts(200))
        tokenize, names = embedder._engine._tokenize_texts, list[int]()

        def watched(texts: Sequence[str]) -> list[TokenIds]:
            names.append(len(texts))
            return tokenize(texts)

        embedder._engine._tokenize_texts = watched
        check(embedder, some_texts(4000))
        assert len(names) >= 3
        assert max(names) <= TOKENS_AT_ONCE


def _tokenizer(folder: Path, tokenizer: FastTokenizer) -> Tokenizer:
    file = folder / "watched-tokenizer.json"
    tokenizer.save(str(file))
    return Tokenizer(file, max_tokens=1 << 20)
