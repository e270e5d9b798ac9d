"""`SparseEncoder` on bundles whose results are known by hand; parity is proven in tests/export."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.bundle.manifest import QueryWeights
from embedrt.errors import BundleCorruptError, BundleFormatError, OverlongTextError
from embedrt.sparse import SparseEncoder
from embedrt.sparse_rows import SparseRow, SparseRows
from tiny_bundle import make_tiny
from tiny_sparse import DIMENSION, make_tiny_sparse, sparse_graph

PROMPTS = {"query": "w3 ", "document": "w4 "}
TABLE = QueryWeights(max_tokens=5, by_default=False)


def terms(row: SparseRow) -> dict[int, float]:
    """The terms of a row."""
    return dict(zip(row.indices.tolist(), row.values.tolist(), strict=True))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparseEncoder]:
    bundle = make_tiny_sparse(tmp_path_factory.mktemp("sparse") / "tiny", prompts=PROMPTS)
    with SparseEncoder.load(bundle) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparseEncoder]:
    """Queries without inference."""
    folder = tmp_path_factory.mktemp("free") / "tiny"
    with SparseEncoder.load(make_tiny_sparse(folder, prompts=PROMPTS, queries=TABLE)) as loaded:
        yield loaded


class TestRows:
    def test_parts(self, encoder: SparseEncoder) -> None:
        rows = encoder.encode(["w2 w1 w2", "", "w9"])
        assert rows.indices.tolist() == [7, 14, 63]
        assert rows.values.tolist() == [1, 2, 1]
        assert rows.indptr.tolist() == [0, 2, 2, 3]
        assert (rows.indices.dtype, rows.values.dtype, rows.indptr.dtype) == ("i4", "f4", "i8")
        assert rows.shape == (3, DIMENSION)
        assert [terms(row) for row in rows] == [{7: 1, 14: 2}, {}, {63: 1}]
        assert terms(rows[-1]) == {63: 1}
        with pytest.raises(IndexError, match="row 3 of 3"):
            rows[3]

    def test_one_text_is_one_row(self, encoder: SparseEncoder) -> None:
        row = encoder.encode("w2 w2")
        assert isinstance(row, SparseRow)
        assert terms(row) == {14: 2}
        assert row.to_dense()[14] == 2

    def test_no_texts(self, encoder: SparseEncoder) -> None:
        rows = encoder.encode([])
        assert (len(rows), rows.shape, rows.indptr.tolist()) == (0, (0, DIMENSION), [0])
        assert encoder.similarity(rows, rows).shape == (0, 0)
        assert encoder.decode(rows) == []

    def test_scipy(self, encoder: SparseEncoder) -> None:
        pytest.importorskip("scipy", reason="the base dependencies do not include it")
        rows = encoder.encode(["w2 w1 w2", "", "w9"])
        matrix = rows.to_scipy()
        assert np.array_equal(matrix.toarray(), rows.to_dense())
        assert matrix.has_sorted_indices

    def test_repeated_texts_are_computed_once(self, encoder: SparseEncoder) -> None:
        before = encoder.stats().coalesced
        rows = encoder.encode(["w1", "w2", "w1"])
        assert [terms(row) for row in rows] == [{7: 1}, {14: 1}, {7: 1}]
        assert encoder.stats().coalesced == before + 1

    def test_the_largest_are_kept(self, encoder: SparseEncoder, tmp_path: Path) -> None:
        text = "w1 w2 w2 w3 w3 w5"
        assert terms(encoder.encode(text, max_active_dims=3)) == {7: 1, 14: 2, 21: 2}
        with SparseEncoder.load(make_tiny_sparse(tmp_path / "b", max_active_dims=1)) as sparse:
            assert sparse.max_active_dims == 1
            assert terms(sparse.encode(text)) == {14: 2}
            assert len(sparse.encode([text], max_active_dims=9)[0]) == 4

    def test_a_batch_has_few_weights_however_short_its_texts(
        self, encoder: SparseEncoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("embedrt.sparse.MOST_WEIGHTS", 2 * DIMENSION + 1)
        texts = [f"w{number}" for number in range(1, 8)]
        before = encoder.stats().batches
        rows = encoder.encode(texts)
        assert encoder.stats().batches - before == 4
        assert [terms(row) for row in rows] == [{7 * number: 1} for number in range(1, 8)]
        with pytest.raises(ValueError, match="batch_size=0"):
            encoder.encode(texts, batch_size=0)

    def test_cache(self, tmp_path: Path) -> None:
        with SparseEncoder.load(make_tiny_sparse(tmp_path / "b"), cache_mb=1) as sparse:
            first = sparse.encode(["w1 w1", "w2"])
            again = sparse.encode(["w2", "w1 w1"])
            assert sparse.stats().cache_hits == 2
            assert terms(again[1]) == terms(first[0]) == {7: 2}


class TestPrompts:
    def test_of_queries_and_documents(self, encoder: SparseEncoder) -> None:
        assert terms(encoder.encode("w1")) == {7: 1}
        assert terms(encoder.encode_query("w1")) == {7: 1, 21: 1}
        assert terms(encoder.encode_document("w1")) == {7: 1, 28: 1}
        assert terms(encoder.encode_document("w1", prompt="w9 ")) == {7: 1, 63: 1}
        assert terms(encoder.encode("w1", "query")) == {7: 1, 21: 1}
        with pytest.raises(ValueError, match="prompt_name='none'"):
            encoder.encode("w1", prompt_name="none")


class TestQueriesWithoutInference:
    def test_each_token_counts_once_and_zeros_are_left_out(self, free: SparseEncoder) -> None:
        before = free.stats().batches
        rows = free.encode_query(["w2 w1 w2 w9", "", "w5"], prompt="")
        assert [terms(row) for row in rows] == [{1: 1, 2: 2}, {}, {5: -1}]
        assert terms(free.encode_query("w1")) == {1: 1, 3: 0.5}
        assert free.stats().batches == before
        assert terms(free.encode_document("w1", prompt="")) == {7: 1}

    def test_the_largest_magnitudes_are_kept(self, free: SparseEncoder) -> None:
        row = free.encode_query("w1 w5 w7 w6 w8", prompt="", max_active_dims=2)
        assert terms(row) == {6: 3, 7: 3}

    def test_truncation(self, free: SparseEncoder) -> None:
        assert terms(free.encode_query("w1 w1 w1 w1 w1 w2", prompt="")) == {1: 1}
        assert terms(free.encode_document("w1 w1 w1 w1 w1 w2", prompt="")) == {7: 5, 14: 1}

    def test_default_route(self, free: SparseEncoder, tmp_path: Path) -> None:
        assert terms(free.encode("w1")) == {7: 1}
        queries = replace(TABLE, by_default=True)
        with SparseEncoder.load(make_tiny_sparse(tmp_path / "b", queries=queries)) as sparse:
            assert terms(sparse.encode("w1")) == {1: 1}
            assert terms(sparse.encode("w1", task="document")) == {7: 1}

    def test_async_and_streams(self, free: SparseEncoder) -> None:
        row = asyncio.run(free.aencode_query("w2", prompt=""))
        assert terms(row) == {2: 2}
        blocks = list(free.embed_stream(iter(["w2"] * 3000), task="query"))
        assert [len(block) for block in blocks] == [2048, 952]
        assert terms(blocks[1][951]) == {2: 2}

    def test_a_table_of_the_wrong_size(self, tmp_path: Path) -> None:
        bundle = make_tiny_sparse(
            tmp_path / "b", queries=TABLE, graph=sparse_graph().replace(b"query_weights", b"x" * 13)
        )
        with pytest.raises(BundleCorruptError, match="has no query_weights of 280 bytes"):
            SparseEncoder.load(bundle)


class TestAsync:
    def test_rows_and_token_counts(self, encoder: SparseEncoder) -> None:
        embedded = asyncio.run(encoder.aembed(["w1 w2", "w1", ""]))
        assert embedded.token_counts.tolist() == [2, 1, 0]
        assert [terms(row) for row in embedded.vectors] == [{7: 1, 14: 1}, {7: 1}, {}]
        assert terms(asyncio.run(encoder.aencode_document("w1"))) == {7: 1, 28: 1}

    def test_truncation_side(self, encoder: SparseEncoder) -> None:
        text = "w1 " + "w2 " * 8
        left = asyncio.run(encoder.aembed(text, truncation_side="left")).vectors
        assert terms(left) == {14: 8}
        with pytest.raises(OverlongTextError):
            asyncio.run(encoder.aembed(text, overlong="error"))


class TestSimilarity:
    @pytest.mark.parametrize("name", ["dot", "cosine", "euclidean", "manhattan"])
    def test_equals_that_of_dense_rows(self, name: Any, tmp_path: Path) -> None:
        from embedrt.similarity import similarity, similarity_pairwise

        bundle = make_tiny_sparse(tmp_path / "b", similarity=name, queries=TABLE)
        with SparseEncoder.load(bundle) as sparse:
            a = sparse.encode_query(["w1 w2 w5", "", "w7", "w5"])
            b = sparse.encode_document(["w0 w1 w1", "w0", "", "w1 w2"])
            found, expected = sparse.similarity(a, b), similarity(a.to_dense(), b.to_dense(), name)
            assert found.dtype == np.float32
            assert np.allclose(found, expected, atol=1e-6)
            pairs = similarity_pairwise(a.to_dense(), b.to_dense(), name)
            assert np.allclose(sparse.similarity_pairwise(a, b), pairs, atol=1e-6)
            assert np.allclose(sparse.similarity(a[0], b)[0], found[0])

    def test_of_other_sizes(self, encoder: SparseEncoder) -> None:
        rows = encoder.encode(["w1", "w2"])
        wide = SparseRows(
            indices=rows.indices, values=rows.values, indptr=rows.indptr, shape=(2, 99)
        )
        with pytest.raises(ValueError, match="rows of 70 and 99 dimensions"):
            encoder.similarity(rows, wide)
        with pytest.raises(ValueError, match="a has 2 rows and b 1"):
            encoder.similarity_pairwise(rows, encoder.encode(["w1"]))


class TestDecode:
    def test_tokens_with_their_weights(self, free: SparseEncoder) -> None:
        row = free.encode_query("w3 w1 w2 w4", prompt="")
        assert free.decode(row) == [("w2", 2), ("w4", 2), ("w1", 1), ("w3", 0.5)]
        assert free.decode(row, top_k=1) == [("w2", 2)]
        rows = free.encode_query(["w1", ""], prompt="")
        assert free.decode(rows) == [[("w1", 1)], []]
        with pytest.raises(ValueError, match="top_k=0"):
            free.decode(row, top_k=0)


class TestSpellings:
    @pytest.mark.parametrize(
        "keywords",
        [
            {"convert_to_tensor": False},
            {"convert_to_sparse_tensor": True, "save_to_cpu": True},
            {"device": "cpu", "pool": None, "chunk_size": 5},
            {"show_progress_bar": False, "batch_size": 2},
        ],
    )
    def test_that_change_nothing(self, encoder: SparseEncoder, keywords: Any) -> None:
        assert terms(encoder.encode("w1", **keywords)) == {7: 1}

    @pytest.mark.parametrize(
        ("keywords", "error", "message"),
        [
            ({"convert_to_tensor": True}, ValueError, "torch.from_numpy"),
            ({"convert_to_sparse_tensor": False}, ValueError, "to_dense"),
            ({"device": "cuda"}, ValueError, "it runs on the CPU"),
            ({"normalize_embeddings": True}, TypeError, "unexpected keyword"),
            ({"task": "passage"}, ValueError, "task='passage'; expected 'query', 'document'"),
            ({"max_active_dims": 0}, ValueError, "max_active_dims=0; expected at least 1"),
        ],
    )
    def test_that_cannot_be_honored(
        self, encoder: SparseEncoder, keywords: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            encoder.encode("w1", **keywords)

    def test_names_of_the_texts(self, encoder: SparseEncoder) -> None:
        assert terms(encoder.encode(sentences="w1")) == {7: 1}
        assert terms(encoder.encode_query(inputs="w1")) == {7: 1, 21: 1}


def test_facts(encoder: SparseEncoder) -> None:
    assert encoder.dimension == encoder.get_embedding_dimension() == DIMENSION
    assert encoder.max_seq_length == encoder.get_max_seq_length() == 8
    assert (encoder.similarity_fn_name, encoder.max_active_dims) == ("dot", None)


def test_pickle(encoder: SparseEncoder) -> None:
    with pickle.loads(pickle.dumps(encoder)) as again:
        assert terms(again.encode("w1 w1")) == {7: 2}


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleFormatError, match=r"use Embedder\.load"):
        SparseEncoder.load(make_tiny(tmp_path / "dense"))
    with pytest.raises(BundleFormatError, match=r"use SparseEncoder\.load"):
        Embedder.load(make_tiny_sparse(tmp_path / "sparse"))
