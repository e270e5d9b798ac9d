"""Tests that every format gives the same rows, and of the peculiarities of each format."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpora import ODD
from embedrt.corpus.places import find_place
from embedrt.corpus.plan import Plan, make_plan
from embedrt.corpus.reading import read_rows
from embedrt.corpus.source import format_of, hive_keys
from embedrt.errors import CorpusSourceError

ROWS = {"id": [str(row) for row in range(len(ODD) + 1)], "text": [*ODD, None]}


def write_parquet(path: Path, table: Any) -> None:
    pq.write_table(table, path, row_group_size=3)


def write_arrow_file(path: Path, table: Any) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_arrow_stream(path: Path, table: Any) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_json(path: Path, table: Any) -> None:
    write_bytes(path, "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode())


def write_csv(path: Path, table: Any) -> None:
    def spell(value: str | None) -> str:
        return "" if value is None else '"' + value.replace('"', '""') + '"'

    rows = [",".join(map(spell, row.values())) for row in table.to_pylist()]
    write_bytes(path, "\n".join([",".join(table.column_names), *rows, ""]).encode())


def write_bytes(path: Path, content: bytes) -> None:
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = pa.compress(content, "zstd", asbytes=True)
    path.write_bytes(content)


WRITERS: dict[str, Callable[[Path, Any], None]] = {
    "a.parquet": write_parquet,
    "a.arrow": write_arrow_file,
    "b.arrow": write_arrow_stream,
    "a.arrows": write_arrow_stream,
    "a.feather": write_arrow_file,
    "a.jsonl": write_json,
    "a.ndjson": write_json,
    "a.json": write_json,
    "a.json.gz": write_json,
    "a.jsonl.gz": write_json,
    "a.jsonl.zst": write_json,
    "a.csv": write_csv,
    "a.csv.gz": write_csv,
    "a.csv.zst": write_csv,
}


def read_all(folder: Path, plan: Plan | None = None, *, rows_per_part: int = 4) -> list[Any]:
    """Return the rows of each part, read part by part."""
    place = find_place(folder)
    plan = plan or make_plan(place, rows_per_part=rows_per_part)
    tables: list[Any] = []
    for part in plan.parts():
        file = plan.files[part.file]
        tables += read_rows(
            place,
            f"{plan.root}/{file.source.path}",
            file.source,
            file.schema,
            groups=file.groups,
            windows=[(part.first, part.rows)],
        )
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_rows_from_every_format(tmp_path: Path, name: str) -> None:
    table = pa.table(ROWS)
    WRITERS[name](tmp_path / name, table)
    assert read_all(tmp_path) == table.to_pylist()
    assert read_all(tmp_path, rows_per_part=1000) == table.to_pylist()


@pytest.mark.parametrize("name", WRITERS)
def test_one_pass_over_a_file_with_gaps(tmp_path: Path, name: str) -> None:
    table = pa.table(ROWS)
    WRITERS[name](tmp_path / name, table)
    place = find_place(tmp_path)
    plan = make_plan(place)
    (file,) = plan.files
    windows = [(1, 1), (2, 4), (8, 2)]
    found = read_rows(
        place, str(tmp_path / name), file.source, file.schema, groups=file.groups, windows=windows
    )
    expected = [table.slice(*window).to_pylist() for window in windows]
    assert [part.to_pylist() for part in found] == expected


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("text", ["x" * 3_000_000, "y\n" * 1_500_000], ids=["long", "lines"])
def test_a_text_of_3_mb(tmp_path: Path, name: str, text: str) -> None:
    table = pa.table({"text": ["w1", text, "w2"]})
    WRITERS[name](tmp_path / name, table)
    assert read_all(tmp_path) == table.to_pylist()


@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    table = pa.table({"text": [f'"text {row}' + "x" * row for row in range(1000)]})
    WRITERS[name](tmp_path / name, table)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) - len(content) // 10 - 5])
    with pytest.raises(CorpusSourceError, match=f"^{name} cannot be read as "):
        make_plan(find_place(tmp_path))


@pytest.mark.parametrize("name", [name for name in WRITERS if not name.endswith((".gz", ".zst"))])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    """The file has no bytes where the format allows that, otherwise no rows."""
    if name.endswith((".jsonl", ".ndjson", ".json", ".csv")):
        (tmp_path / name).touch()
    else:
        WRITERS[name](tmp_path / name, pa.table({"text": pa.array([], pa.string())}))
    plan = make_plan(find_place(tmp_path))
    assert plan.rows == 0
    assert list(plan.parts()) == []


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_nulls_only(tmp_path: Path, name: str) -> None:
    table = pa.table({"id": ["a", "b"], "text": pa.array([None, None], pa.string())})
    WRITERS[name](tmp_path / name, table)
    assert read_all(tmp_path) == table.to_pylist()


def test_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    """`save_to_disk` of Datasets writes Arrow streams and describes them in JSON files."""
    table = pa.table(ROWS)
    table = table.replace_schema_metadata({"huggingface": '{"info": {"features": {}}}'})
    for number in range(2):
        write_arrow_stream(tmp_path / f"data-0000{number}-of-00002.arrow", table)
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    cache = "cache-0123456789abcdef_00000_of_00002.arrow"  # of `map` on the loaded dataset
    write_arrow_stream(tmp_path / cache, table)
    (tmp_path / "other").mkdir()
    write_arrow_stream(tmp_path / "other" / cache, table)
    plan = make_plan(find_place(tmp_path))
    assert plan.skipped == (cache, "dataset_info.json", "state.json")
    assert plan.schema().metadata is None
    assert read_all(tmp_path) == table.to_pylist() * 3


def test_json_beside_other_data_describes_it(tmp_path: Path) -> None:
    """Spark, Ray and DuckDB give lines the suffix that all others give descriptions."""
    for name in ("part-0.json", "part-1.JSON.gz", "x=1/part-2.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_json(tmp_path / name, pa.table({"text": [name]}))
    assert [row["text"] for row in read_all(tmp_path)] == [
        "part-0.json", "part-1.JSON.gz", "x=1/part-2.json",
    ]  # fmt: skip
    write_csv(tmp_path / "a.json.csv", pa.table({"text": ["w1"]}))
    assert read_all(tmp_path) == [{"text": "w1"}]
    assert make_plan(find_place(tmp_path)).skipped == (
        "part-0.json", "part-1.JSON.gz", "x=1/part-2.json",
    )  # fmt: skip
    named = make_plan(find_place(tmp_path / "part-0.json"))
    assert named.rows == 1


class TestCsv:
    def read(self, tmp_path: Path, content: str) -> list[Any]:
        (tmp_path / "a.csv").write_bytes(content.encode())
        return read_all(tmp_path)

    def test_null_and_the_empty_text_differ(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, 'id,text\n1,\n2,""\n3,NA\n4,null\n,w1\n')
        assert [row["text"] for row in found] == [None, "", "NA", "null", "w1"]
        assert [row["id"] for row in found] == ["1", "2", "3", "4", None]

    def test_a_header_and_no_row(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, "id,text\n") == []
        assert make_plan(find_place(tmp_path)).schema().names == ["id", "text"]

    def test_columns_keep_their_types(self, tmp_path: Path) -> None:
        (row,) = self.read(tmp_path, "id,day,text\n007,2024-01-01,true\n")
        assert row == {"id": "007", "day": "2024-01-01", "text": "true"}

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_line_breaks_in_a_text(self, tmp_path: Path, end: str) -> None:
        found = self.read(tmp_path, f'\ufeffid,text{end}1,"a{end}b"{end}2,c')
        assert [row["text"] for row in found] == [f"a{end}b", "c"]
        assert found[0]["id"] == "1"

    def test_line_breaks_at_every_block_boundary(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every block boundary lies inside a text, so none is right by chance."""
        monkeypatch.setattr("embedrt.corpus.csv_rows.BLOCK_BYTES", 1 << 16)
        texts = ["a\nb\n" * 1000] * 500
        with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows([["text"], *([text] for text in texts)])
        found = read_all(tmp_path, rows_per_part=100)
        assert [row["text"] for row in found] == texts

    def test_a_quote_inside_a_text_without_quotes(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, 'id,text\n1,a 5" pipe\n')
        assert [row["text"] for row in found] == ['a 5" pipe']

    @pytest.mark.parametrize("end", ["\n", "\r\n", ""])
    def test_a_text_that_does_not_end_is_named(self, tmp_path: Path, end: str) -> None:
        """It would take all rows after it for its own."""
        with pytest.raises(CorpusSourceError, match=r"a.csv cannot .*ends inside a quoted text"):
            self.read(tmp_path, f'id,text\n1,"a{end or chr(10)}2,b{end}')

    def test_a_row_of_other_length_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(CorpusSourceError, match=r"a.csv cannot be read.*Expected 2 columns"):
            self.read(tmp_path, "id,text\n1,a,b\n")

    def test_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes("id,text\n1,é\n".encode("latin-1"))
        with pytest.raises(CorpusSourceError, match=r"a.csv cannot be read.*UTF8"):
            read_all(tmp_path)


class TestJsonLines:
    def read(self, tmp_path: Path, content: str | bytes) -> list[Any]:
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "a.jsonl").write_bytes(content)
        return read_all(tmp_path)

    def test_an_array_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(
            CorpusSourceError, match=r"a.jsonl cannot .*one JSON array.*jq -c '\.\[\]'"
        ):
            self.read(tmp_path, '\ufeff\n [\n{"text": "a"},\n{"text": "b"}\n]\n')

    @pytest.mark.parametrize(
        ("spelled", "text"),
        [
            (r"a\ud83db", "a\ufffdb"),
            (r"\ud83d\ude00", "\U0001f600"),
            (r"\ude00\ud83d", "\ufffd\ufffd"),
            (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
            (r"\ud83d\u0041", "\ufffdA"),
            (r"\\ud83d", r"\ud83d"),
            (r"\\\ud83d", "\\\ufffd"),
            (r"\uD83D", "\ufffd"),
            (r"\"\ud83d\"", '"\ufffd"'),
        ],
    )
    def test_surrogates(self, tmp_path: Path, spelled: str, text: str) -> None:
        (row,) = self.read(tmp_path, f'{{"text": "{spelled}"}}\n')
        assert row == {"text": text}

    def test_blank_lines_a_byte_order_mark_and_no_last_newline(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, '\ufeff{"text": "a"}\r\n\r\n\n{"text": "b"}')
        assert found == [{"text": "a"}, {"text": "b"}]

    def test_only_blank_lines(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, "\n \n\n") == []

    def test_a_text_that_looks_like_a_date_stays_a_text(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, '{"text": "2024-01-01", "days": ["2024-01-01"]}\n')
        assert found == [{"text": "2024-01-01", "days": ["2024-01-01"]}]

    def test_a_key_that_comes_late_and_numbers_of_two_kinds(self, tmp_path: Path) -> None:
        filler = '{"text": "%s", "n": 1}\n' % ("x" * 1_000_000)
        found = self.read(tmp_path, filler * 6 + '{"text": "b", "n": 1.5, "late": "c"}\n')
        assert len(found) == 7
        assert found[0]["n"] == 1.0
        assert found[0]["late"] is None
        assert found[6] == {"text": "b", "n": 1.5, "late": "c"}

    def test_a_column_of_two_types_is_named(self, tmp_path: Path) -> None:
        message = r"a.jsonl cannot be read.*/n\) changed from number to string in row 1.*from row 0"
        with pytest.raises(CorpusSourceError, match=message):
            self.read(tmp_path, '{"n": 12}\n{"n": "c"}\n')

    def test_a_column_of_two_types_in_different_blocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines = ['{"n": 123}\n', '{"n": "c"}\n']
        monkeypatch.setattr("embedrt.corpus.json_lines.BLOCK_BYTES", len(lines[0]))
        with pytest.raises(CorpusSourceError, match=r"a.jsonl: column 'n' is string, and int64"):
            self.read(tmp_path, "".join(lines))

    def test_whole_numbers_beyond_int64(self, tmp_path: Path) -> None:
        ids = [2**64 - 1, 2**63, 0, None]
        lines = "".join(
            json.dumps({"text": "1" * 20, "id": number, "score": 0.1 + (number or 0) % 7}) + "\n\n"
            for number in ids
        )
        found = self.read(tmp_path, lines)
        assert [row["id"] for row in found] == ids
        assert make_plan(find_place(tmp_path)).schema().field("id").type == pa.uint64()

    @pytest.mark.parametrize(
        "values", [["-18446744073709551615"], [str(2**64 + 1)], ["1.5", str(2**53 + 1)]]
    )
    def test_whole_numbers_that_would_be_rounded(self, tmp_path: Path, values: list[str]) -> None:
        with pytest.raises(CorpusSourceError, match=r"column 'id' has whole numbers that 64 bits"):
            self.read(tmp_path, "".join(f'{{"id": {value}}}\n' for value in values))

    def test_whole_numbers_that_a_float_holds(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, f'{{"n": {2**53}}}\n{{"n": 0.12345678901234567}}\n')
        assert [row["n"] for row in found] == [2**53, 0.12345678901234567]

    def test_invalid_json(self, tmp_path: Path) -> None:
        with pytest.raises(CorpusSourceError, match=r"a.jsonl cannot be read as jsonl"):
            self.read(tmp_path, '{"text": "a"}\nno JSON\n')

    @settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        max_examples=50,
    )
    @given(texts=st.lists(st.none() | st.text(st.characters(codec=None)), min_size=1))
    def test_any_texts_as_python_writes_them(
        self, tmp_path: Path, texts: Sequence[str | None]
    ) -> None:
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        expected = [
            text
            if text is None
            else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            for text in texts
        ]
        assert [row["text"] for row in self.read(tmp_path, lines)] == expected


class TestParquet:
    def test_timestamps_of_spark(self, tmp_path: Path) -> None:
        """Spark writes them as INT96, which pyarrow reads as nanoseconds if it is not told."""
        days = pa.array(["0001-01-01", "2024-05-06 07:08:09.000010", "9999-12-31", None])
        table = pa.table({"text": ["a", "b", "c", "d"], "day": days.cast(pa.timestamp("us"))})
        pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
        assert make_plan(find_place(tmp_path)).schema().field("day").type == pa.timestamp("us")
        assert read_all(tmp_path) == table.to_pylist()


class TestArrow:
    def test_types_that_parquet_does_not_have_become_plain(self, tmp_path: Path) -> None:
        texts = ["a", None, "a"]
        table = pa.table(
            {
                "view": pa.array(texts, pa.string_view()),
                "dictionary": pa.array(texts).dictionary_encode(),
                "bytes": pa.array([b"a", None, b"b"], pa.binary_view()),
            }
        )
        write_arrow_file(tmp_path / "a.arrow", table)
        schema = make_plan(find_place(tmp_path)).schema()
        assert schema.types == [pa.string(), pa.string(), pa.binary()]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("a.parquet", "parquet"), ("A.PARQUET", "parquet"), ("a.jsonl.gz", "jsonl"),
            ("a.CSV.zst", "csv"), ("x/y=1/a.csv", "csv"), ("_date=1/a.csv", "csv"),
            ("README.md", None), ("_SUCCESS", None), ("_metadata.parquet", None),
            (".a.parquet", None), ("_temporary/0/a.parquet", None), ("a.parquet.crc", None),
            ("a.parquet.gz", None), ("a.json", "jsonl"), ("a.gz", None), ("parquet", None),
        ],
    )  # fmt: skip
    def test_which_files_are_data(self, name: str, expected: str | None) -> None:
        assert format_of(name) == expected

    def test_partitions_of_folders(self) -> None:
        name = "year=2024/lang=pt%2FBR/empty=__HIVE_DEFAULT_PARTITION__/a=b.csv"
        assert hive_keys(name) == (("year", "2024"), ("lang", "pt/BR"), ("empty", None))
