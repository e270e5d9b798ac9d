"""Tests of the scores against simple or established implementations."""

from __future__ import annotations

import json
import math
from codecs import BOM_UTF8
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.harness.catalog import ContenderError
from benchmarks.harness.quality import check_answer, ndcg, share_of_equal_rows, spearman
from benchmarks.harness.retrieval import read_retrieval

Vectors = NDArray[np.float32]


def random_vectors(count: int, seed: int, dimension: int = 16) -> Vectors:
    drawn = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    unit: Vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def slow_ndcg(
    queries: Vectors, documents: Vectors, judgments: list[dict[int, int]], depth: int
) -> float:
    """Compute nDCG literally as it is defined."""
    total = 0.0
    for query, judged in zip(queries, judgments, strict=True):
        scores = [float(np.dot(query, document)) for document in documents]
        order = sorted(range(len(documents)), key=lambda index: -scores[index])
        gain = 0.0
        for rank, index in enumerate(order[:depth], 1):
            gain += judged.get(index, 0) / math.log2(rank + 1)
        ideal = 0.0
        for rank, relevance in enumerate(sorted(judged.values(), reverse=True)[:depth], 1):
            ideal += relevance / math.log2(rank + 1)
        total += gain / ideal
    return total / len(judgments)


@given(st.integers(1, 5), st.integers(2, 30), st.integers(1, 12), st.data())
def test_ndcg_matches_its_definition(
    queries: int, documents: int, depth: int, data: st.DataObject
) -> None:
    judged = st.dictionaries(st.integers(0, documents - 1), st.integers(1, 3), min_size=1)
    judgments = [data.draw(judged) for _ in range(queries)]
    asked, found = random_vectors(queries, 1), random_vectors(documents, 2)
    expected = slow_ndcg(asked, found, judgments, depth)
    assert ndcg(asked, found, judgments, depth=depth) == pytest.approx(expected, abs=1e-9)


def test_ndcg_of_known_ranks() -> None:
    documents = np.eye(3, dtype=np.float32)
    query = np.array([[0.8, 0.6, 0.0]], np.float32)
    assert ndcg(query, documents, [{0: 1}]) == pytest.approx(1)
    assert ndcg(query, documents, [{1: 1}]) == pytest.approx(1 / math.log2(3))
    assert ndcg(query, documents, [{2: 1}]) == pytest.approx(1 / math.log2(4))


def test_spearman_is_of_ranks_and_equal_values_share_theirs() -> None:
    assert spearman([1.0, 2.0, 9.0], [10.0, 20.0, 30.0]) == pytest.approx(1)
    # The ranks are 1.5, 1.5, 3 and 1, 2, 3.
    assert spearman([5.0, 5.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(0.75**0.5)


def test_equal_bytes_are_counted() -> None:
    vectors = random_vectors(4, 0)
    other = vectors.copy()
    other[2, 3] = np.nextafter(other[2, 3], np.float32(2))
    assert share_of_equal_rows(vectors, vectors) == 1
    assert share_of_equal_rows(vectors, other) == 0.75


def test_vectors_as_inexact_as_int8_pass() -> None:
    reference = random_vectors(50, 0, dimension=384)
    noisy = reference + 0.2 * random_vectors(50, 1, dimension=384)
    check_answer(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), reference)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda v: v[:-1], r"shape \(49, 384\), not \(50, 384\)"),
        (lambda v: v[:, :100], r"shape \(50, 100\)"),
        (lambda v: 2 * v, "has length 2.000"),
        (lambda v: v * np.nan, "has length nan"),
        (lambda v: np.roll(v, 1, axis=0), "in the mean"),
        (lambda v: np.concatenate([v[1::-1], v[2:]]), "at the least"),
    ],
)
def test_wrong_vectors_are_reported(spoil: object, reason: str) -> None:
    reference = random_vectors(50, 0, dimension=384)
    assert callable(spoil)
    with pytest.raises(ContenderError, match=f"answered wrongly: .*{reason}"):
        check_answer(spoil(reference), reference)


def test_retrieval_is_read_from_beirs_layout(tmp_path: Path) -> None:
    write_task(tmp_path, judgments=["q1\td2\t1", "q1\td1\t0", "q3\td1\t2"])
    task = read_retrieval(tmp_path)
    assert task.queries == ["first?", "third?"]
    assert task.documents == ["A title a text", "no title"]
    assert task.judgments == [{1: 1}, {0: 2}]


def test_files_with_a_byte_order_mark(tmp_path: Path) -> None:
    write_task(tmp_path, judgments=["q1\td2\t1"])
    plain = read_retrieval(tmp_path)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (tmp_path / name).write_bytes(BOM_UTF8 + (tmp_path / name).read_bytes())
    assert read_retrieval(tmp_path) == plain


def test_a_judgment_of_an_unknown_document_is_an_error(tmp_path: Path) -> None:
    write_task(tmp_path, judgments=["q1\td9\t1"])
    with pytest.raises(ValueError, match="no query q1 or no document d9"):
        read_retrieval(tmp_path)


def write_task(folder: Path, judgments: list[str]) -> None:
    (folder / "qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore", *judgments]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    documents = [
        {"_id": "d1", "title": "A title", "text": "a text", "metadata": {}},
        {"_id": "d2", "title": "", "text": "no title"},
    ]
    queries = [
        {"_id": "q1", "text": "first?"},
        {"_id": "q2", "text": "second, unjudged?"},
        {"_id": "q3", "text": "third?"},
    ]
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps(one) + "\n" for one in documents), encoding="utf-8"
    )
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps(one) + "\n" for one in queries), encoding="utf-8"
    )
