"""Tests of the plan: each row is in one part, parts are deterministic, only footers are read."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora import write_parquet
from embedrt.corpus import plan
from embedrt.corpus.places import find_place
from embedrt.corpus.plan import Plan, PlannedFile, key_of, make_plan
from embedrt.corpus.plan_file import differences, load_plan, plan_again, save_plan
from embedrt.corpus.source import SourceFile
from embedrt.errors import CorpusOutputError, CorpusSourceError


def plan_of(*files: tuple[int, ...], rows_per_part: int = 10) -> Plan:
    """Return a plan for files with these row groups."""
    return Plan(
        files=tuple(
            PlannedFile(
                source=SourceFile(path=f"{n}.parquet", format="parquet", size=1, modified_ns=1),
                groups=groups,
                schema=pa.schema([("text", pa.string())]),
            )
            for n, groups in enumerate(files)
        ),
        rows_per_part=rows_per_part,
        root="/",
    )


@given(
    files=st.lists(st.lists(st.integers(0, 50), max_size=8).map(tuple), max_size=4),
    rows_per_part=st.integers(1, 30),
)
def test_every_row_is_in_one_part(files: list[tuple[int, ...]], rows_per_part: int) -> None:
    planned = plan_of(*files, rows_per_part=rows_per_part)
    parts = list(planned.parts())
    for number, groups in enumerate(files):
        covered = [
            row
            for part in parts
            if part.file == number
            for row in range(part.first, part.first + part.rows)
        ]
        assert covered == list(range(sum(groups)))
    assert all(0 < part.rows <= rows_per_part for part in parts)
    names = [part.name for part in parts]
    assert names == sorted(names)
    assert [key_of(name) for name in names] == [part.key for part in parts]
    for part in parts:
        starts = [sum(files[part.file][:group]) for group in range(len(files[part.file]) + 1)]
        assert starts[part.group] <= part.first < starts[part.group + 1]


def test_large_groups_are_divided_evenly_and_small_ones_joined() -> None:
    parts = plan_of((25, 3, 4, 2, 9, 1)).parts()
    assert [(part.group, part.first, part.rows) for part in parts] == [
        (0, 0, 8), (0, 8, 8), (0, 16, 9), (1, 25, 9), (4, 34, 10),
    ]  # fmt: skip


def test_the_name_contains_file_row_group_and_offset(source: Path) -> None:
    parts = list(plan(source, rows_per_part=100).parts())
    assert parts[0].name == "000000-part_0-g00000-r0000000000.parquet"
    assert parts[1].name == "000000-part_0-g00001-r0000000060.parquet"


def test_only_footers_are_read(source: Path) -> None:
    """Overwriting the rows of a file does not change the plan."""
    file = source / "part-0.parquet"
    before = plan(source)
    footer = pq.read_metadata(file).serialized_size
    content = file.read_bytes()
    os.truncate(file, 0)
    file.write_bytes(b"\0" * (len(content) - footer - 8) + content[-footer - 8 :])
    assert plan(source).files[0].groups == before.files[0].groups


def test_no_data_file(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(CorpusSourceError, match=r"no data file among its 1 files; expected .arrow"):
        plan(tmp_path)
    with pytest.raises(CorpusSourceError, match="there is no such file or folder"):
        plan(tmp_path / "other")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(CorpusSourceError, match=r"pipe.jsonl is neither a file nor a folder"):
        plan(tmp_path / "pipe.jsonl")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems convert names")
def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "source", files=1)
    odd = folder / os.fsdecode(b"\xff.parquet")
    (folder / "part-0.parquet").rename(odd)
    for source in (folder, odd, str(odd)):
        with pytest.raises(CorpusSourceError, match=r"udcff.parquet': the name is not UTF-8"):
            plan(source)


def test_a_hidden_file_that_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "_a.parquet")
    with pytest.raises(CorpusSourceError, match="no data file among its 1 files"):
        plan(tmp_path)
    assert plan(tmp_path / "_a.parquet").rows == 1


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
def test_links(tmp_path: Path) -> None:
    """A link to a folder that it lies in leads to no file twice, and not astray."""
    folder = write_parquet(tmp_path / "source", files=1)
    (folder / "sub").mkdir()
    for link, target in (("up", "."), ("again", "."), ("sub/up", ".."), ("copy", "../other")):
        (folder / link).symlink_to(target, target_is_directory=True)
    write_parquet(tmp_path / "other", files=1)
    os.mkfifo(folder / "pipe.csv")
    planned = plan(folder)
    assert [file.source.path for file in planned.files] == [
        "copy/part-0.parquet", "part-0.parquet",
    ]  # fmt: skip
    assert planned.skipped == ("pipe.csv",)
    for name in ("gone.parquet", "gone.csv"):
        (folder / name).symlink_to("nowhere")
        with pytest.raises(CorpusSourceError, match=f"{name} cannot be read"):
            plan(folder)


def test_a_uri_of_no_bucket() -> None:
    with pytest.raises(CorpusSourceError, match=r"s3:// names no bucket"):
        find_place("s3://")


def test_a_uri_of_no_file_system() -> None:
    with pytest.raises(CorpusSourceError, match=r"ftp://host/x: .*expected a path, or a URI of s3"):
        plan("ftp://host/x")


def test_a_uri_of_files(source: Path) -> None:
    assert plan(source.as_uri()).digest() == plan(source).digest()


class TestSchemas:
    def write(self, folder: Path, *tables: pa.Table) -> Plan:
        for number, table in enumerate(tables):
            pq.write_table(table, folder / f"{number}.parquet")
        return plan(folder)

    def test_columns_never_vanish(self, tmp_path: Path) -> None:
        planned = self.write(
            tmp_path, pa.table({"text": ["a"]}), pa.table({"text": ["b"], "year": [1]})
        )
        assert planned.schema().names == ["text", "year"]

    def test_the_wider_type(self, tmp_path: Path) -> None:
        planned = self.write(
            tmp_path,
            pa.table({"n": pa.array([1], pa.int32()), "t": pa.nulls(1)}),
            pa.table({"n": pa.array([1], pa.int64()), "t": ["a"]}),
            pa.table({"n": pa.array([1.5], pa.float64()), "t": pa.array(["a"], pa.large_string())}),
        )
        assert planned.schema().types == [pa.float64(), pa.large_string()]

    def test_incompatible_types(self, tmp_path: Path) -> None:
        planned = self.write(tmp_path, pa.table({"n": [1]}), pa.table({"n": ["a"]}))
        with pytest.raises(
            CorpusSourceError, match=r"1.parquet: column 'n' is string, and int64 in"
        ):
            planned.schema()
        assert planned.schema(needed=["text"]).names == ["n"]

    def test_numbers_that_no_type_holds(self, tmp_path: Path) -> None:
        planned = self.write(
            tmp_path, pa.table({"n": [-1]}), pa.table({"n": pa.array([2**64 - 1], pa.uint64())})
        )
        with pytest.raises(CorpusSourceError, match=r"1.parquet: column 'n' is uint64, and int64"):
            planned.schema()

    def test_partitions(self, tmp_path: Path) -> None:
        for year, name in ((2023, "a"), (2024, "b")):
            folder = tmp_path / f"year={year}" / f"name={name}"
            folder.mkdir(parents=True)
            pq.write_table(pa.table({"text": ["a"]}), folder / "a.parquet")
        schema = plan(tmp_path).schema()
        assert schema.names == ["text", "year", "name"]
        assert schema.types == [pa.string(), pa.int64(), pa.string()]


class TestPlanFile:
    def test_stored_and_loaded(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / "output").mkdir()
        planned = plan(source, rows_per_part=70)
        output = find_place(tmp_path / "output")
        save_plan(output, planned)
        loaded = load_plan(output, planned.root)
        assert loaded == planned
        assert loaded is not None
        assert loaded.digest() == planned.digest()

    def test_footers_are_not_read_again(self, source: Path) -> None:
        planned = plan(source)
        status = (source / "part-0.parquet").stat()
        (source / "part-0.parquet").write_bytes(b"x" * status.st_size)
        os.utime(source / "part-0.parquet", ns=(status.st_atime_ns, status.st_mtime_ns))
        again = plan_again(
            find_place(source), planned, rows_per_part=planned.rows_per_part, skip_unreadable=False
        )
        assert again.digest() == planned.digest()

    @pytest.mark.parametrize("content", [None, b"PAR1"])
    def test_damaged(self, tmp_path: Path, content: bytes | None) -> None:
        pq.write_table(pa.table({"a": [1]}), tmp_path / "_plan")
        if content is not None:
            (tmp_path / "_plan").write_bytes(content)
        with pytest.raises(CorpusOutputError, match=r"_plan is damaged"):
            load_plan(find_place(tmp_path))

    def test_differences_are_named(self, source: Path) -> None:
        planned = plan(source)
        (source / "part-1.parquet").unlink()
        write_parquet(source, files=1, rows=7)
        write_parquet(source / "more", files=2)
        assert differences(planned, plan(source, rows_per_part=5)) == [
            "rows per part: 4000 before, 5 now",
            "added: more/part-0.parquet and 1 more",
            "gone: part-1.parquet",
            "changed: part-0.parquet",
        ]

    def test_a_repaired_file_is_no_difference(self, source: Path) -> None:
        whole = (source / "part-1.parquet").read_bytes()
        (source / "part-1.parquet").write_bytes(whole[:-100])
        broken = make_plan(find_place(source), skip_unreadable=True)
        assert [file.source.path for file in broken.unreadable] == ["part-1.parquet"]
        (source / "part-1.parquet").write_bytes(whole)
        assert differences(broken, plan(source)) == []


def test_size_of_a_plan_does_not_depend_on_the_rows() -> None:
    small, large = plan_of((100,)), plan_of((10**12,))
    assert len(repr(dataclasses.asdict(large.files[0]))) - 10 == len(
        repr(dataclasses.asdict(small.files[0]))
    )
    assert next(large.parts()).rows == 10
