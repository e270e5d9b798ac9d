"""Sparse rows of a corpus: a struct of two lists, the same bytes and digest however it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt import corpus
from embedrt.bundle.manifest import QueryWeights
from embedrt.cli import main
from embedrt.corpus.digest import digest_rows
from embedrt.corpus.sample import _difference
from embedrt.corpus.table import read_column
from embedrt.errors import BundleFormatError, CorpusOutputError
from embedrt.sparse import SparseEncoder
from embedrt.sparse_rows import TERM
from tiny_bundle import make_tiny, make_tiny_reranker
from tiny_late import make_tiny_late
from tiny_sparse import make_tiny_sparse

TEXTS = ["w1 w2 w1", None, "", "w9", "w2 w2 w3 w3 w3 w5"]
ROWS: list[Any] = [
    {"indices": [7, 14], "values": [2, 1]},
    None,
    {"indices": [], "values": []},
    {"indices": [63], "values": [1]},
    {"indices": [14, 21, 35], "values": [2, 3, 1]},
]
QUERIES = QueryWeights(max_tokens=8, by_default=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_sparse(tmp_path / "bundle", queries=QUERIES, prompts={"query": "w3 "})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    pq.write_table(pa.table({"text": TEXTS, "id": range(5)}), tmp_path / "source" / "a.parquet")
    return tmp_path / "source"


def read(folder: Path) -> Any:
    tables = [pq.read_table(file) for file in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables([table.replace_schema_metadata() for table in tables])


def test_table(bundle: Path) -> None:
    with SparseEncoder.load(bundle) as encoder:
        table = corpus.embed_table(pa.table({"text": TEXTS}), encoder)
        column = table.column("embedding")
        assert column.type == pa.struct(
            [("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))]
        )
        assert column.to_pylist() == ROWS
        kept = corpus.embed_table(pa.table({"text": TEXTS}), encoder, max_active_dims=1)
        assert kept.column("embedding").to_pylist()[4] == {"indices": [21], "values": [3]}
        found = corpus.embed_table(pa.table({"text": ["w1"]}), encoder, task="query")
        assert found.column("embedding").to_pylist() == [{"indices": [1, 3], "values": [1, 0.5]}]


def test_a_column_is_read_back(bundle: Path) -> None:
    with SparseEncoder.load(bundle) as encoder:
        table = corpus.embed_table(pa.table({"text": TEXTS}), encoder)
    rows, valid = read_column(table.column("embedding"))
    assert valid.tolist() == [True, False, True, True, True]
    assert [row.tolist() for row in rows] == [
        [(7, 2), (14, 1)], [], [], [(63, 1)], [(14, 2), (21, 3), (35, 1)],
    ]  # fmt: skip
    sliced, _ = read_column(table.column("embedding").slice(3))
    assert [row.tobytes() for row in sliced] == [row.tobytes() for row in rows[3:]]


def test_any_parts_give_the_same_rows_and_digest(
    tmp_path: Path, source: Path, bundle: Path
) -> None:
    digests = set()
    for rows_per_part in (1, 2, 5):
        output = tmp_path / f"output-{rows_per_part}"
        report = corpus.embed(source, output, bundle=bundle, rows_per_part=rows_per_part)
        assert report.complete
        assert read(output).column("embedding").to_pylist() == ROWS
        digests.add(report.digest)
        verified = corpus.verify_output(output, source=source)
        assert (verified.rows, verified.nulls, verified.digest) == (5, 1, report.digest)
    assert len(digests) == 1


def test_merged(tmp_path: Path, source: Path, bundle: Path) -> None:
    output = tmp_path / "output"
    report = corpus.embed(source, output, bundle=bundle, rows_per_part=2, merge_mb=1)
    (file,) = output.glob("*.parquet")
    assert pq.read_table(file).column("embedding").to_pylist() == ROWS
    encodings = pq.read_metadata(file).row_group(0).column(3).encodings
    assert "BYTE_STREAM_SPLIT" in encodings
    assert corpus.verify_output(output).digest == report.digest


def test_a_changed_weight_is_found(tmp_path: Path, source: Path, bundle: Path) -> None:
    output = tmp_path / "output"
    corpus.embed(source, output, bundle=bundle)
    (file,) = output.glob("*.parquet")
    table = pq.read_table(file)
    changed = [*ROWS[:3], {"indices": [63], "values": [1.5]}, ROWS[4]]
    place = table.column_names.index("embedding")
    column = pa.array(changed, table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), column), file)
    with pytest.raises(CorpusOutputError, match="digest"):
        corpus.verify_output(output)


@pytest.mark.parametrize("change", [("index", 8), ("value", 2.5)])
def test_digest(change: tuple[str, float]) -> None:
    rows = np.empty(1, object)
    rows[0] = np.array([(7, 2), (14, 1)], TERM)
    before = digest_rows("a", 0, rows, np.array([True]))
    rows[0] = rows[0].copy()
    rows[0][change[0]][0] = change[1]
    assert digest_rows("a", 0, rows, np.array([True])) != before


def test_difference_of_rows_with_other_terms() -> None:
    before, now = (np.array(terms, TERM) for terms in ([(1, 0.5), (3, 2)], [(3, 2.25), (9, 0.125)]))
    assert _difference(before, now) == pytest.approx(0.5 / 2.25)
    assert _difference(before, before) == 0
    assert _difference(before[:0], before[:0]) == 0


@pytest.mark.parametrize(
    ("options", "sparse"),
    [
        ({"normalize": True}, True),
        ({"truncate_dim": 2}, True),
        ({"precision": "float16"}, True),
        ({"max_active_dims": 2}, False),
        ({"task": "query"}, False),
    ],
)
def test_options_of_the_other_kind_are_refused(
    tmp_path: Path, source: Path, bundle: Path, options: dict[str, Any], *, sparse: bool
) -> None:
    bundle = bundle if sparse else make_tiny(tmp_path / "dense")
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}=.*: only for"):
        corpus.embed(source, tmp_path / "output", bundle=bundle, **options)


def test_bundles_of_other_tasks_are_refused(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "output"
    for bundle in (make_tiny_late(tmp_path / "late"), make_tiny_reranker(tmp_path / "pairs")):
        with pytest.raises(
            BundleFormatError, match="a corpus needs a bundle for embedding or sparse"
        ):
            corpus.embed(source, output, bundle=bundle)
        assert not output.exists()


def test_command(
    tmp_path: Path, source: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    options = ["--bundle", str(bundle), "--task", "query", "--max-active-dims", "2"]
    assert main(["embed", str(source), str(output), *options]) == 0
    assert read(output).column("embedding").to_pylist()[4] == {"indices": [2, 5], "values": [2, -1]}
    assert main(["corpus", "verify", str(output), "--source", str(source)]) == 0
    assert "nulls 1" in capsys.readouterr().out
