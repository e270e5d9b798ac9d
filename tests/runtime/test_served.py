"""Tests of what a server needs of an Embedder: token counts, side of truncation, tokens as text."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.errors import OverlongTextError
from embedrt.request import Embedded
from tiny_bundle import make_tiny

TEXTS = ["w1 w2", "", "w3", "w1 w2", "w4 " * 20, "w5 w5 w6"]


def embedded(embedder: Embedder, texts: str | list[str], **options: object) -> Embedded:
    return asyncio.run(embedder.aembed(texts, **options))  # type: ignore[arg-type]


class TestTokenCounts:
    def test_of_each_text(self, tiny_embedder: Embedder) -> None:
        """Counts are after truncation, also for repeated and cached texts."""
        for _ in range(2):
            found = embedded(tiny_embedder, TEXTS)
            assert found.token_counts.tolist() == [2, 0, 1, 2, 8, 3]
            assert found.vectors.tobytes() == tiny_embedder.encode(TEXTS).tobytes()
            blocking = tiny_embedder.embed(TEXTS)
            assert blocking.token_counts.tolist() == found.token_counts.tolist()
            assert blocking.vectors.tobytes() == found.vectors.tobytes()

    def test_from_the_cache(self, tiny: Path) -> None:
        with Embedder.load(tiny, cache_mb=1) as embedder:
            for _ in range(2):
                assert embedded(embedder, TEXTS).token_counts.tolist() == [2, 0, 1, 2, 8, 3]
            assert embedder.stats().cache_hits == 4

    def test_of_one_text_and_none(self, tiny_embedder: Embedder) -> None:
        assert embedded(tiny_embedder, "w1 w1").token_counts.tolist() == [2]
        assert embedded(tiny_embedder, []).token_counts.tolist() == []


class TestTruncation:
    LONG = "w1 w1 w2 w2 w2 w2 w2 w2 w3 w3"

    @pytest.mark.parametrize("own", ["left", "right"])
    def test_side_of_a_call(self, tmp_path: Path, own: str) -> None:
        with Embedder.load(make_tiny(tmp_path / "tiny", truncation_side=own)) as embedder:
            left = embedded(embedder, [self.LONG, "w4"], truncation_side="left").vectors
            right = embedded(embedder, [self.LONG, "w4"], truncation_side="right").vectors
            assert left[:, 1:5].tolist() == [[0, 6, 2, 0], [0, 0, 0, 1]]
            assert right[:, 1:5].tolist() == [[2, 6, 0, 0], [0, 0, 0, 1]]
            expected = {"left": left, "right": right}[own]
            assert embedder.encode([self.LONG, "w4"]).tobytes() == expected.tobytes()

    def test_sides_share_the_queue(self, tiny_embedder: Embedder) -> None:
        """Concurrent calls with different sides get their own results."""

        async def main() -> list[Embedded]:
            return await asyncio.gather(
                *(
                    tiny_embedder.aembed([f"w{number} {self.LONG}"], truncation_side=side)
                    for number in range(10)
                    for side in ("left", "right", None)
                )
            )

        found = [each.vectors[0] for each in asyncio.run(main())]
        for number in range(10):
            left, right, own = found[3 * number : 3 * number + 3]
            assert left[1:4].tolist() == [0, 6, 2]
            assert right.tobytes() == own.tobytes()
            assert right[number] >= 1

    def test_overlong_of_a_call(self, tiny: Path) -> None:
        with Embedder.load(tiny) as embedder:
            with pytest.raises(OverlongTextError, match=r"texts\[1\] is too long"):
                embedded(embedder, ["w1", self.LONG], overlong="error")
            assert len(embedded(embedder, ["w1", self.LONG]).vectors) == 2
        with Embedder.load(tiny, overlong="error") as embedder:
            assert len(embedded(embedder, [self.LONG], overlong="truncate").vectors) == 1

    def test_error_and_another_side(self, tiny_embedder: Embedder) -> None:
        with pytest.raises(OverlongTextError):
            embedded(tiny_embedder, self.LONG, overlong="error", truncation_side="left")


class TestTokens:
    def test_pieces(self, embedder: Embedder) -> None:
        text = "Hello, wörld 🦙!"
        pieces = embedder.tokenizer.pieces(text)
        assert [piece.id for piece in pieces] == embedder.tokenize(text)[0].tolist()
        assert [piece.text for piece in pieces] == [
            "[CLS]", "Hello", ",", "wörld", "🦙", "!", "[SEP]",
        ]  # fmt: skip
        assert [piece.special for piece in pieces] == [True, *[False] * 5, True]
        for piece in pieces[1:-1]:
            assert piece.span is not None
            assert text[slice(*piece.span)] == piece.text
        bare = embedder.tokenizer.pieces(text, special=False)
        assert bare == pieces[1:-1]

    def test_no_truncation(self, embedder: Embedder) -> None:
        assert len(embedder.tokenizer.pieces("word " * 1000)) == 1002

    def test_decode(self, embedder: Embedder) -> None:
        ids = embedder.tokenize("hello world")[0].tolist()
        assert embedder.tokenizer.decode(ids) == "hello world"
        assert embedder.tokenizer.decode(ids, skip_special=False) == "[CLS] hello world [SEP]"
        with pytest.raises(ValueError, match=r"\[1\] is 999999, which is not a token id"):
            embedder.tokenizer.decode([1, 999_999])

    def test_options(self, tiny: Path) -> None:
        with Embedder.load(tiny, threads=3, cache_mb=2) as embedder:
            assert (embedder.options.threads, embedder.options.cache_mb) == (3, 2)
        with Embedder.load(tiny) as embedder:
            assert embedder.options.threads >= 1  # type: ignore[operator]

    def test_time_in_the_graph(self, tiny_embedder: Embedder) -> None:
        assert tiny_embedder.stats().run_seconds == 0
        tiny_embedder.encode("w1")
        assert tiny_embedder.stats().run_seconds > 0
        assert np.isfinite(tiny_embedder.stats().run_seconds)
