"""Tests that verification finds lost, duplicated, moved and changed rows of an output."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpora import files_of, names, write_parquet
from embedrt.corpus import embed, verify_output
from embedrt.corpus.output import FACTS
from embedrt.errors import BundleNotFoundError, CorpusOutputError
from tiny_bundle import make_tiny

Break = Callable[[list[Path]], None]


def change(file: Path, edit: Callable[[Any], Any]) -> None:
    """Change only the vectors of a file."""
    with pq.ParquetFile(file) as parquet:
        groups = [parquet.read_row_group(number) for number in range(parquet.num_row_groups)]
    with pq.ParquetWriter(file, groups[0].schema) as writer:
        for table in [edit(groups[0]), *groups[1:]]:
            writer.write_table(table, row_group_size=len(table))


def set_vectors(table: Any, edit: Callable[[list[Any]], None]) -> Any:
    rows = table.column("embedding").to_pylist()
    edit(rows)
    return table.set_column(
        2, table.schema.field("embedding"), pa.array(rows, table.schema.field(2).type)
    )


def one_component(files: list[Path]) -> None:
    def edit(rows: list[Any]) -> None:
        rows[5][0] = float(np.nextafter(np.float32(rows[5][0]), np.float32(9)))

    change(files[1], lambda table: set_vectors(table, edit))


def two_rows_swapped(files: list[Path]) -> None:
    def edit(rows: list[Any]) -> None:
        rows[2], rows[5] = rows[5], rows[2]

    change(files[1], lambda table: set_vectors(table, edit))


def a_null_more(files: list[Path]) -> None:
    change(files[1], lambda table: set_vectors(table, lambda rows: rows.__setitem__(5, None)))


def a_row_lost(files: list[Path]) -> None:
    change(files[1], lambda table: table.slice(1))


def a_file_lost(files: list[Path]) -> None:
    files[1].unlink()


def a_file_copied(files: list[Path]) -> None:
    shutil.copy(files[1], files[1].with_name("copy.parquet"))


def a_file_in_place_of_another(files: list[Path]) -> None:
    shutil.copy(files[0], files[1])


def a_file_cut_off(files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:-9])


def a_file_of_a_stranger(files: list[Path]) -> None:
    table = pq.read_table(files[1])
    pq.write_table(table.replace_schema_metadata(None), files[1])


def another_identity(files: list[Path]) -> None:
    table = pq.read_table(files[1])
    facts = {**json.loads(table.schema.metadata[FACTS]), "identity": "0"}
    pq.write_table(table.replace_schema_metadata({FACTS: json.dumps(facts)}), files[1])


def no_success(files: list[Path]) -> None:
    files[0].with_name("_SUCCESS").unlink()


def another_digest(files: list[Path]) -> None:
    file = files[0].with_name("_SUCCESS")
    success = {**json.loads(file.read_text(encoding="utf-8")), "digest": "0" * 64}
    file.write_text(json.dumps(success), encoding="utf-8")


BREAKS: dict[Break, str] = {
    one_component: "digest is",
    two_rows_swapped: "digest is",
    a_null_more: "nulls is 76, and _SUCCESS says 75",
    a_row_lost: "has 59 rows, planned 60",
    a_file_lost: "is missing",
    a_file_copied: "copy.parquet is not part of this plan",
    a_file_in_place_of_another: "digest is|cannot be read",
    a_file_cut_off: "cannot be read",
    a_file_of_a_stranger: "cannot be read",
    another_identity: "made by a run with other settings",
    no_success: "it is not complete",
    another_digest: "digest is [0-9a-f]+, and _SUCCESS says 0000",
}


def test_a_complete_output(output: Path, source: Path) -> None:
    for given in (None, source):
        found = verify_output(output, source=given, sample=750)
        assert (found.rows, found.parts, found.nulls) == (750, 15, 75)
        assert found.against_source == (given is not None)
        assert found.again.rows == 750
        assert found.again.tolerant == 0


@pytest.mark.parametrize("spoil", BREAKS, ids=lambda spoil: spoil.__name__)
def test_damage_is_found(output: Path, spoil: Break) -> None:
    spoil(files_of(output))
    before = names(output)
    with pytest.raises(CorpusOutputError, match=BREAKS[spoil]):
        verify_output(output)
    assert names(output) == before


def test_vectors_of_another_bundle_are_found_by_computing_them_again(
    source: Path, tiny: Path, tmp_path: Path
) -> None:
    """Rows of another bundle have correct digests, and only computing them again finds them."""
    other = make_tiny(tmp_path / "other", table=np.ones((10, 10), np.float32))
    embed(source, tmp_path / "output", bundle=other)
    with pytest.raises(CorpusOutputError, match="another bundle than the one that made it"):
        verify_output(tmp_path / "output", bundle=tiny)
    settings = json.loads((tmp_path / "output/_embedrt.json").read_text(encoding="utf-8"))
    mine = tmp_path / "mine"
    embed(source, mine, bundle=tiny)
    settings["bundle"] = json.loads((mine / "_embedrt.json").read_text(encoding="utf-8"))["bundle"]
    (tmp_path / "output/_embedrt.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(CorpusOutputError, match=r"row [0-9]+ differs in its bytes"):
        verify_output(tmp_path / "output", bundle=tiny, sample=750)


def test_a_changed_source(source: Path, tiny: Path, tmp_path: Path) -> None:
    embed(source, tmp_path / "output", bundle=tiny)
    verify_output(tmp_path / "output", source=source)
    write_parquet(source, files=1, rows=9)
    with pytest.raises(CorpusOutputError, match=r"the source differs, changed: part-0.parquet"):
        verify_output(tmp_path / "output", source=source)


def test_texts_that_are_not_in_the_output(source: Path, tiny: Path, tmp_path: Path) -> None:
    embed(source, tmp_path / "output", bundle=tiny, columns=["id"], rows_per_part=60)
    assert verify_output(tmp_path / "output").again.rows == 0
    assert verify_output(tmp_path / "output", source=source, sample=99).again.rows == 99


def test_another_processor_is_compared_to_a_tolerance(
    source: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedrt.corpus.part.processor_name", lambda: "another")
    report = embed(source, tmp_path / "output", bundle=tiny)
    assert report.processors == ("another",)
    again = verify_output(tmp_path / "output", sample=40).again
    assert (again.rows, again.tolerant) == (40, 40)
    assert again.tolerance == pytest.approx(1e-5)


@pytest.mark.parametrize("precision", ["float16", "binary", "ubinary"])
def test_precisions(source: Path, tiny: Path, tmp_path: Path, precision: Any) -> None:
    embed(source, tmp_path / "output", bundle=tiny, precision=precision)
    assert verify_output(tmp_path / "output", sample=750).again.rows == 750


def test_partitions_and_lines(tmp_path: Path, tiny: Path) -> None:
    """The text column comes from folder names, and the format has no row groups."""
    for word in ("w1", "w2"):
        folder = tmp_path / "source" / f"word={word}"
        folder.mkdir(parents=True)
        lines = "".join(f'{{"text": "w{row % 9}"}}\n' for row in range(50))
        (folder / "a.jsonl").write_text(lines, encoding="utf-8")
    options: dict[str, Any] = {"text": ["word", "text"], "columns": [], "rows_per_part": 20}
    embed(tmp_path / "source", tmp_path / "output", bundle=tiny, **options)
    found = verify_output(tmp_path / "output", source=tmp_path / "source", sample=30)
    assert found.again.rows == 30


def test_a_sample_of_less_than_nothing(output: Path) -> None:
    with pytest.raises(ValueError, match="sample=-1; expected at least 0"):
        verify_output(output, sample=-1)


def test_no_output_and_no_bundle(source: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusOutputError, match="is not an output of embedrt embed"):
        verify_output(source)
    embed(source, tmp_path / "output", bundle=tiny)
    with pytest.raises(BundleNotFoundError):
        verify_output(tmp_path / "output", bundle=tmp_path / "other")
