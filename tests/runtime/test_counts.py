"""Tests of options that are counts: anything but a positive integer is refused, before any work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder, MultiVectorEncoder, Reranker, SparseEncoder, semantic_search
from embedrt.errors import OverloadedError
from embedrt.request import STREAM_BLOCK
from tiny_bundle import make_tiny, make_tiny_reranker
from tiny_late import make_tiny_late
from tiny_sparse import make_tiny_sparse

NO_INTEGERS: list[Any] = [True, False, 1.0, 1.5, float("nan"), float("inf"), "1", [1], np.True_]
TEXTS = ["w1", "w2 w3"]
PAIRS = [("w1", "w2"), ("w1", "w3 w4")]
MAKERS: dict[type[Any], Callable[[Path], Path]] = {
    Embedder: make_tiny,
    Reranker: make_tiny_reranker,
    SparseEncoder: make_tiny_sparse,
    MultiVectorEncoder: make_tiny_late,
}

Use = Callable[[Any, Any], object]
"""Calls a method of a loaded bundle with an option."""

OPTIONS: list[tuple[type[Any], str, Use]] = [
    (Embedder, "batch_size", lambda e, n: e.encode(TEXTS, batch_size=n)),
    (Embedder, "batch_size", lambda e, n: asyncio.run(e.aencode(TEXTS, batch_size=n))),
    (Embedder, "batch_size", lambda e, n: list(e.embed_stream(TEXTS, batch_size=n))),
    (Embedder, "truncate_dim", lambda e, n: e.encode(TEXTS, truncate_dim=n)),
    (Embedder, "top_k", lambda e, n: e.semantic_search([[1] * 10], [[1] * 10], top_k=n)),
    (Reranker, "batch_size", lambda r, n: r.predict(PAIRS, batch_size=n)),
    (Reranker, "top_k", lambda r, n: r.rank("w1", TEXTS, top_k=n)),
    (Reranker, "top_k", lambda r, n: asyncio.run(r.arank("w1", TEXTS, top_k=n))),
    (SparseEncoder, "batch_size", lambda s, n: s.encode(TEXTS, batch_size=n)),
    (SparseEncoder, "batch_size", lambda s, n: list(s.embed_stream(TEXTS, batch_size=n))),
    (SparseEncoder, "max_active_dims", lambda s, n: s.encode(TEXTS, max_active_dims=n)),
    (SparseEncoder, "top_k", lambda s, n: s.decode(s.encode(TEXTS), top_k=n)),
    (MultiVectorEncoder, "batch_size", lambda m, n: m.encode(TEXTS, batch_size=n)),
    (MultiVectorEncoder, "batch_size", lambda m, n: list(m.embed_stream(TEXTS, batch_size=n))),
]


@pytest.mark.parametrize(("kind", "name", "use"), OPTIONS)
def test_counts_of_calls(tmp_path: Path, kind: type[Any], name: str, use: Use) -> None:
    with kind.load(MAKERS[kind](tmp_path / "bundle"), threads=1) as loaded:
        for bad in NO_INTEGERS:
            with pytest.raises(TypeError, match=rf"^{name}=.*; expected an integer, "):
                use(loaded, bad)
        for bad in (0, -1, np.int64(0)):
            with pytest.raises(ValueError, match=rf"^{name}=.*; expected (at least 1|1 to )"):
                use(loaded, bad)
        assert loaded.waiting_tokens == 0
        for good in (1, np.int32(2), 10**30 if name != "truncate_dim" else 10):
            use(loaded, good)


@pytest.mark.parametrize("name", ["threads", "max_waiting_tokens"])
def test_counts_of_loads(tiny: Path, name: str) -> None:
    option: Any
    for bad in NO_INTEGERS:
        with pytest.raises(TypeError, match=rf"^{name}=.*; expected an integer, at least 1, or"):
            Embedder.load(tiny, **{name: bad})
    for bad in (0, -1):
        option = {name: bad}
        with pytest.raises(ValueError, match=rf"^{name}={bad}; expected at least 1, or None"):
            Embedder.load(tiny, **option)


@pytest.mark.parametrize("bad", [None, True, "5", [5]])
def test_the_size_of_the_cache_is_a_number(tiny: Path, bad: Any) -> None:
    with pytest.raises(TypeError, match=r"^cache_mb=.*; expected a number of at least 0$"):
        Embedder.load(tiny, cache_mb=bad)
    goods: list[Any] = [0.5, np.float32(0.5), np.int64(1)]
    for good in goods:
        with Embedder.load(tiny, cache_mb=good) as embedder:
            assert embedder.encode("w1")[1] == 1


def test_more_threads_than_any_system_has(tiny: Path) -> None:
    with Embedder.load(tiny, threads=1_000_000) as embedder:
        for _ in range(20):  # the session for all cores is loaded after a few
            assert embedder.encode("w1")[1] == 1
        loading = embedder._engine._sessions.loading
        if loading is not None:
            loading.result(timeout=60)


def test_search_without_a_number() -> None:
    bad: Any = None
    with pytest.raises(TypeError, match=r"^top_k=None; expected an integer, at least 1$"):
        semantic_search([1], [1], top_k=bad)


@pytest.mark.parametrize("bad", ["cut", "", 5, ["warn"]])
def test_treatment_of_long_texts(tmp_path: Path, bad: Any) -> None:
    with Embedder.load(make_tiny(tmp_path / "e")) as embedder:
        for name, known in (("overlong", "'truncate', 'warn'"), ("truncation_side", "'left'")):
            with pytest.raises(ValueError, match=rf"^{name}=.*; expected one of \[{known}"):
                asyncio.run(embedder.aembed(TEXTS, **{name: bad}))
    with Reranker.load(make_tiny_reranker(tmp_path / "r")) as reranker:
        for name in ("overlong", "truncation_side"):
            with pytest.raises(ValueError, match=rf"^{name}=.*; expected one of"):
                asyncio.run(reranker.ascore(PAIRS, **{name: bad}))


class TestStreamsUnderALimit:
    def test_a_block_waits_for_the_block_before(self, tiny: Path) -> None:
        texts = [f"w{number % 10} w{number // 10 % 10}" for number in range(4 * STREAM_BLOCK)]
        with Embedder.load(tiny, max_waiting_tokens=3) as embedder:
            blocks = list(embedder.embed_stream(texts))
            assert [len(block) for block in blocks] == [STREAM_BLOCK] * 4
        with Embedder.load(tiny) as embedder:
            assert np.concatenate(blocks).tobytes() == embedder.encode(texts).tobytes()

    def test_a_queue_of_others_is_an_overload(self, tiny: Path) -> None:
        many = [f"w{number % 10} w{number // 10 % 10}" for number in range(2 * STREAM_BLOCK)]
        with Embedder.load(tiny, threads=1, max_waiting_tokens=3) as embedder:
            with embedder._engine.core():  # no other work runs meanwhile
                call = embedder._requests.for_encode(many).call
                embedder._engine.start(call)
                with pytest.raises(OverloadedError, match="max_waiting_tokens is 3"):
                    next(embedder.embed_stream(TEXTS))
                embedder._engine.cancel(call)
            assert [len(block) for block in embedder.embed_stream(TEXTS)] == [2]
