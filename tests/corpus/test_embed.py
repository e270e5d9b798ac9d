"""End-to-end tests of embedding a corpus: output, resuming, refusals."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from corpora import digest_of_source, expected_vectors, names, texts_of, write_parquet
from embedrt import Embedder
from embedrt.corpus import LocalEngine, Report, embed, verify_output
from embedrt.corpus.part import Failure
from embedrt.errors import CorpusError, CorpusOutputError, CorpusSourceError, TokenizationError
from tiny_bundle import make_tiny

HIDDEN = ["_SUCCESS", "_embedrt.json", "_plan"]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def parts_in(output: Path) -> list[str]:
    return [name for name in names(output) if not name.startswith("_")]


def success(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "_SUCCESS").read_text(encoding="utf-8"))
    return content


def write_tables(folder: Path, tables: Mapping[str, Mapping[str, list[Any]]]) -> Path:
    for name, columns in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(dict(columns)), folder / name)
    return folder


class TestOutput:
    @pytest.mark.parametrize("rows_per_part", [1, 60, 77, 100_000])
    def test_the_digest_is_that_of_one_encode(
        self, source: Path, output: Path, tiny: Path, rows_per_part: int
    ) -> None:
        report = embed(source, output, bundle=tiny, rows_per_part=rows_per_part)
        assert report.digest == digest_of_source(source, tiny)
        assert report.digest == success(output)["digest"]
        assert report.complete

    def test_real_weights(self, tmp_path: Path, minilm: Path, output: Path) -> None:
        source = write_parquet(tmp_path / "source", files=2, rows=40)
        report = embed(source, output, bundle=minilm, rows_per_part=30)
        assert report.digest == digest_of_source(source, minilm)

    def test_rows_keep_their_order_and_their_columns(
        self, source: Path, output: Path, tiny: Path
    ) -> None:
        embed(source, output, bundle=tiny, rows_per_part=70)
        found = pq.read_table(output)
        before = pq.read_table(source)
        assert found.drop(["embedding"]).equals(before)
        expected = expected_vectors(tiny, before.column("text").to_pylist())
        rows = found.column("embedding").to_pylist()
        assert rows == [None if one is None else one.tolist() for one in expected]

    def test_report(self, source: Path, output: Path, tiny: Path) -> None:
        (source / "README.md").touch()
        report = embed(source, output, bundle=tiny)
        texts = texts_of(750)
        assert (report.rows, report.rows_done, report.rows_run) == (750, 750, 750)
        assert report.nulls == texts.count(None) == 75
        assert (report.parts, report.parts_run, report.files) == (3, 3, 3)
        assert report.skipped == ("README.md",)
        assert report.failures == ()
        assert report.tokens > 0
        assert json.loads(json.dumps(report.to_json()))["complete"] is True
        with pytest.raises(dataclasses.FrozenInstanceError):
            report.rows = 0  # type: ignore[misc]

    def test_truncated_texts_are_counted(self, tmp_path: Path, output: Path, tiny: Path) -> None:
        pq.write_table(pa.table({"text": ["w1 " * n for n in range(20)]}), tmp_path / "a.parquet")
        assert embed(tmp_path / "a.parquet", output, bundle=tiny).cut == 20 - 9

    def test_settings_beside_the_parts(self, source: Path, output: Path, tiny: Path) -> None:
        embed(source, output, bundle=tiny, prompt="w1 ", columns=["id"])
        stored = json.loads((output / "_embedrt.json").read_text(encoding="utf-8"))
        assert stored["bundle"]["name"] == "tiny"
        assert stored["dimension"] == 10
        assert stored["prompt"] == "w1 "
        assert stored["columns"] == {"id": "int64"}
        assert set(stored["versions"]) >= {"embedrt", "onnxruntime", "pyarrow"}
        assert stored["processor"]
        assert names(output)[-3:] == HIDDEN

    @pytest.mark.parametrize("precision", ["float32", "float16", "binary", "ubinary"])
    def test_precision(self, source: Path, output: Path, tiny: Path, precision: Any) -> None:
        embed(source, output, bundle=tiny, precision=precision, truncate_dim=9)
        kind = pq.read_schema(output / parts_in(output)[0]).field("embedding").type
        expected = Embedder.load(tiny).encode(["w1"], precision=precision, truncate_dim=9)
        assert kind.list_size == expected.shape[1]
        assert kind.value_type.to_pandas_dtype() == expected.dtype

    def test_vectors_take_less_than_with_the_defaults_of_pyarrow(
        self, tmp_path: Path, output: Path
    ) -> None:
        table = np.random.default_rng(0).normal(size=(10, 384)).astype(np.float32)
        bundle = make_tiny(tmp_path / "wide", table=table)
        source = write_parquet(tmp_path / "source", files=1, rows=2000)
        embed(source, output, bundle=bundle)
        (name,) = parts_in(output)
        pq.write_table(pq.read_table(output / name), tmp_path / "plain.parquet")
        column = pq.read_metadata(output / name).row_group(0).column(2)
        assert "BYTE_STREAM_SPLIT" in column.encodings
        assert "DICTIONARY" not in str(column.encodings)
        assert not column.is_stats_set
        assert (output / name).stat().st_size < (tmp_path / "plain.parquet").stat().st_size

    def test_one_file(self, source: Path, output: Path, tiny: Path) -> None:
        report = embed(source / "part-1.parquet", output, bundle=tiny)
        assert report.rows == 250

    def test_partitions_become_columns(self, tmp_path: Path, output: Path, tiny: Path) -> None:
        for year in (2023, 2024):
            write_parquet(tmp_path / "source" / f"year={year}" / "lang=en", files=1, rows=20)
        embed(tmp_path / "source", output, bundle=tiny)
        found = pq.read_table(output)
        assert found.column("year").to_pylist() == [2023] * 20 + [2024] * 20
        assert set(found.column("lang").to_pylist()) == {"en"}

    def test_a_partition_that_the_files_have_as_well(
        self, tmp_path: Path, output: Path, tiny: Path
    ) -> None:
        folder = tmp_path / "source" / "year=2024"
        folder.mkdir(parents=True)
        table = pa.table({"text": ["w1"], "year": pa.array([2024], pa.int16())})
        pq.write_table(table, folder / "a.parquet")
        embed(tmp_path / "source", output, bundle=tiny)
        file = pq.read_table(output / parts_in(output)[0])
        assert file.column("year").to_pylist() == [2024]
        assert file.schema.field("year").type == pa.int16()

    def test_a_partition_that_some_files_have_as_well(
        self, tmp_path: Path, output: Path, tiny: Path
    ) -> None:
        source = write_tables(
            tmp_path / "source",
            {
                "day=2024-01-01/a.parquet": {"text": ["w1"]},
                "day=2024-01-02/b.parquet": {"text": ["w1"], "day": [date(2024, 1, 3)]},
                "c.parquet": {"text": ["w1"]},
            },
        )
        embed(source, output, bundle=tiny)
        days = pq.read_table(output).column("day").to_pylist()
        assert days == [None, date(2024, 1, 1), date(2024, 1, 3)]
        (source / "day=2024-01-01").rename(source / "day=Monday")
        with pytest.raises(
            CorpusSourceError, match=r"a.parquet: day=Monday cannot be converted to date32"
        ):
            embed(source, tmp_path / "other", bundle=tiny)

    @pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.csv"])
    def test_a_partition_is_the_only_column(
        self, tmp_path: Path, output: Path, tiny: Path, name: str
    ) -> None:
        """The file's own columns are not needed, but its rows are."""
        file = tmp_path / "source" / "text=w1" / name
        if name == "a.parquet":
            write_tables(file.parent, {name: {"id": [1, 2]}})
        else:
            file.parent.mkdir(parents=True)
            file.write_text(
                '{"id": 1}\n{"id": 2}\n' if name == "a.jsonl" else "id\n1\n2\n", encoding="utf-8"
            )
        embed(tmp_path / "source", output, bundle=tiny, columns=["text"])
        assert pq.read_table(output).column("text").to_pylist() == ["w1", "w1"]
        assert verify_output(output, source=tmp_path / "source").again.rows == 2

    def test_vectors_in_place_of_the_texts(self, source: Path, output: Path, tiny: Path) -> None:
        embed(source, output, bundle=tiny, output_column="text", overwrite_column=True)
        assert verify_output(output).again.rows == 0
        assert verify_output(output, source=source, sample=9).again.rows == 9

    def test_columns_that_differ_and_are_left_out(
        self, source: Path, output: Path, tiny: Path
    ) -> None:
        write_tables(source, {"other.parquet": {"text": ["w1"], "id": ["x"]}})
        with pytest.raises(CorpusSourceError, match=r"column 'id'.*leave the column out with"):
            embed(source, output, bundle=tiny)
        assert embed(source, output, bundle=tiny, columns="text").rows == 751

    def test_run_ends(self, tmp_path: Path, output: Path, tiny: Path) -> None:
        (tmp_path / "source").mkdir()
        runs = pa.RunEndEncodedArray.from_arrays([2, 3], ["w1", None])
        with pa.ipc.new_file(
            tmp_path / "source" / "a.arrow", pa.schema([("text", runs.type)])
        ) as f:
            f.write_table(pa.table({"text": runs}))
        embed(tmp_path / "source", output, bundle=tiny)
        assert pq.read_table(output).column("text").to_pylist() == ["w1", "w1", None]

    def test_files_of_several_formats_and_schemas(
        self, source: Path, output: Path, tiny: Path
    ) -> None:
        (source / "more.jsonl").write_text('{"text": "w1", "late": 1}\n', encoding="utf-8")
        table = pa.table({"text": pa.array(["w2"]).dictionary_encode(), "id": [1.5]})
        pq.write_table(table, source / "other.parquet")
        report = embed(source, output, bundle=tiny)
        assert report.rows == 752
        found = ds.dataset(output).to_table().sort_by("late")
        assert found.column("late")[0].as_py() == 1
        assert found.schema.field("id").type == pa.float64()

    def test_no_rows(self, tmp_path: Path, output: Path, tiny: Path) -> None:
        (tmp_path / "source").mkdir()
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "source/a.parquet")
        report = embed(tmp_path / "source", output, bundle=tiny)
        assert report.complete
        assert report.rows == 0
        assert names(output) == HIDDEN

    def test_a_row_group_of_300_000_rows(self, tmp_path: Path, output: Path, tiny: Path) -> None:
        text = pa.array(["w1 " * 3] * 300_000)
        pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet", row_group_size=300_000)
        report = embed(tmp_path / "a.parquet", output, bundle=tiny, columns=[])
        assert report.rows_done == 300_000
        assert report.parts == 75


class TestResume:
    def test_only_what_is_missing(self, source: Path, output: Path, tiny: Path) -> None:
        first = embed(source, output, bundle=tiny, rows_per_part=60)
        times = {name: (output / name).stat().st_mtime_ns for name in parts_in(output)}
        gone = [parts_in(output)[index] for index in (0, 3, 4)]
        for name in gone:
            (output / name).unlink()
        again = embed(source, output, bundle=tiny, rows_per_part=60)
        assert again.parts_run == 3
        assert again.digest == first.digest
        for name, time in times.items():
            assert ((output / name).stat().st_mtime_ns == time) == (name not in gone)

    def test_nothing_to_do(self, source: Path, output: Path, tiny: Path) -> None:
        first = embed(source, output, bundle=tiny)
        shutil.rmtree(tiny_copy := output.parent / "copy", ignore_errors=True)
        again = embed(source, output, bundle=tiny)
        assert (again.parts_run, again.rows_done) == (0, 750)
        assert (
            dataclasses.replace(
                again, seconds=first.seconds, parts_run=3, rows_run=750, tokens=first.tokens
            )
            == first
        )
        assert not tiny_copy.exists()

    def test_stopped_after_the_parts_in_flight(
        self, source: Path, output: Path, tiny: Path
    ) -> None:
        stop = Event()
        engine = StoppingEngine(after=2, stop=stop)
        report = embed(source, output, bundle=tiny, rows_per_part=60, engine=engine, stop=stop)
        assert report.interrupted
        assert not report.complete
        assert report.digest is None
        assert report.parts == 15
        assert 2 <= report.parts_run == len(parts_in(output)) <= 5
        assert "_SUCCESS" not in names(output)
        again = embed(source, output, bundle=tiny, rows_per_part=60)
        assert again.parts_run == 15 - report.parts_run
        assert again.digest == digest_of_source(source, tiny)

    def test_temporary_files_are_removed(self, source: Path, output: Path, tiny: Path) -> None:
        output.mkdir()
        (output / ".tmp-0123456789abcdef").touch()
        (output / ".other").touch()
        embed(source, output, bundle=tiny)
        assert [name for name in names(output) if name.startswith(".")] == [".other"]

    def test_a_damaged_part_is_named(self, source: Path, output: Path, tiny: Path) -> None:
        embed(source, output, bundle=tiny)
        name = parts_in(output)[0]
        (output / name).write_bytes(b"PAR1")
        (output / "_SUCCESS").unlink()
        with pytest.raises(CorpusOutputError, match=f"{name} is damaged.*remove it and run again"):
            embed(source, output, bundle=tiny)
        (output / name).unlink()
        assert embed(source, output, bundle=tiny).complete

    def test_a_part_of_other_work_is_named(
        self, source: Path, output: Path, tiny: Path, tmp_path: Path
    ) -> None:
        embed(source, output, bundle=tiny)
        embed(source, tmp_path / "other", bundle=tiny, prompt="w1")
        shutil.copy(tmp_path / "other" / parts_in(output)[0], output)
        (output / "_SUCCESS").unlink()
        with pytest.raises(CorpusOutputError, match="was made by a run with other settings"):
            embed(source, output, bundle=tiny)


@dataclasses.dataclass(frozen=True)
class StoppingEngine:
    """A local engine that is asked to stop after `after` parts."""

    after: int
    stop: Event

    def run(self, *arguments: Any) -> Iterator[Any]:
        for number, outcome in enumerate(LocalEngine(threads=1).run(*arguments), 1):
            if number == self.after:
                self.stop.set()
            yield outcome


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"prompt": "w1"}, "prompt: '' before, 'w1' now"),
            ({"normalize": True}, "normalize: False before, True now"),
            ({"precision": "float16"}, "precision: 'float32' before, 'float16' now"),
            ({"truncate_dim": 3}, "truncate_dim: None before, 3 now"),
            ({"columns": ["id"]}, "columns: .* before, {'id': 'int64'} now"),
            ({"output_column": "v"}, "output_column: 'embedding' before, 'v' now"),
            ({"rows_per_part": 9}, "rows per part: 4000 before, 9 now"),
        ],
    )
    def test_other_settings(
        self, source: Path, output: Path, tiny: Path, change: dict[str, Any], message: str
    ) -> None:
        embed(source, output, bundle=tiny)
        before = names(output)
        with pytest.raises(CorpusOutputError, match=f"output of another job.*{message}"):
            embed(source, output, bundle=tiny, **change)
        assert names(output) == before

    def test_a_file(self, source: Path, output: Path, tiny: Path) -> None:
        output.write_bytes(b"content")
        with pytest.raises(CorpusOutputError, match=r"is a file; choose an empty or a new folder$"):
            embed(source, output, bundle=tiny)
        assert output.read_bytes() == b"content"

    def test_another_bundle(self, source: Path, output: Path, tiny: Path, tmp_path: Path) -> None:
        embed(source, output, bundle=tiny)
        other = make_tiny(tmp_path / "other", table=np.ones((10, 10), np.float32))
        with pytest.raises(CorpusOutputError, match=r"output of another job .bundle: {'name'"):
            embed(source, output, bundle=other)

    def test_a_moved_bundle_is_the_same(
        self, source: Path, output: Path, tiny: Path, tmp_path: Path
    ) -> None:
        embed(source, output, bundle=tiny)
        shutil.copytree(tiny, tmp_path / "moved")
        assert embed(source, output, bundle=tmp_path / "moved").parts_run == 0

    def test_a_changed_source(self, source: Path, output: Path, tiny: Path) -> None:
        embed(source, output, bundle=tiny)
        shutil.copy(source / "part-1.parquet", source / "part-3.parquet")
        with pytest.raises(CorpusOutputError, match=r"added: part-3.parquet"):
            embed(source, output, bundle=tiny)

    def test_a_folder_of_other_files(self, source: Path, output: Path, tiny: Path) -> None:
        output.mkdir()
        (output / "mine.txt").touch()
        with pytest.raises(CorpusOutputError, match=r"not an output of embedrt: it holds mine.txt"):
            embed(source, output, bundle=tiny)
        assert names(output) == ["mine.txt"]

    @pytest.mark.parametrize("where", [".", "inside", ".."])
    def test_an_output_that_would_be_read(self, source: Path, tiny: Path, where: str) -> None:
        with pytest.raises(CorpusOutputError, match="contain each other"):
            embed(source, source / where, bundle=tiny)
        assert names(source) == [f"part-{number}.parquet" for number in range(3)]

    def test_a_file_without_the_text_column(self, source: Path, output: Path, tiny: Path) -> None:
        pq.write_table(pa.table({"txt": ["w1"]}), source / "other.parquet")
        with pytest.raises(CorpusSourceError, match=r"other.parquet has no column 'text'; it has"):
            embed(source, output, bundle=tiny)
        assert not output.exists()

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"text": "other"}, CorpusSourceError),
            ({"text": "id"}, CorpusSourceError),
            ({"text": []}, CorpusSourceError),
            ({"columns": ["other"]}, CorpusSourceError),
            ({"rows_per_part": 0}, CorpusSourceError),
            ({"on_error": "ignore"}, ValueError),
            ({"merge_mb": 0}, ValueError),
            ({"merge_mb": math.nan}, ValueError),
            ({"truncate_dim": 11}, ValueError),
            ({"precision": "int8"}, ValueError),
            ({"prompt": "a", "prompt_name": "b"}, ValueError),
            ({"engine": "other"}, ValueError),
        ],
    )
    def test_options(
        self,
        source: Path,
        output: Path,
        tiny: Path,
        options: dict[str, Any],
        error: type[Exception],
    ) -> None:
        with pytest.raises(error):
            embed(source, output, bundle=tiny, **options)
        assert not output.exists()

    @pytest.mark.parametrize(
        "values",
        [pa.array([{}], pa.struct([])), pa.array([(1, 2, 3)], pa.month_day_nano_interval())],
        ids=["empty struct", "interval"],
    )
    def test_a_type_that_parquet_cannot_hold(
        self, tmp_path: Path, output: Path, tiny: Path, values: Any
    ) -> None:
        """It is refused before texts are embedded."""
        table = pa.table({"text": ["w1"], "other": values})
        file = tmp_path / "a.arrow"
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(CorpusSourceError, match=r"column 'other' is .*, which Parquet cannot"):
            embed(file, output, bundle=tiny)
        assert not output.exists()
        assert embed(file, output, bundle=tiny, columns=["text"]).complete

    @pytest.mark.parametrize("content", ["{}", "[]", "{"])
    def test_damaged_settings(self, source: Path, output: Path, tiny: Path, content: str) -> None:
        embed(source, output, bundle=tiny)
        (output / "_embedrt.json").write_text(content, encoding="utf-8")
        with pytest.raises(CorpusOutputError, match=r"_embedrt.json is damaged"):
            embed(source, output, bundle=tiny)
        with pytest.raises(CorpusOutputError, match=r"_embedrt.json is damaged"):
            verify_output(output)

    def test_an_output_column_that_exists(self, source: Path, output: Path, tiny: Path) -> None:
        with pytest.raises(CorpusSourceError, match="already has a column 'id'"):
            embed(source, output, bundle=tiny, output_column="id")
        embed(source, output, bundle=tiny, output_column="id", overwrite_column=True)
        assert pq.read_table(output).column_names == ["text", "id"]


class TestOnError:
    def test_a_truncated_file(self, source: Path, output: Path, tiny: Path) -> None:
        whole = (source / "part-1.parquet").read_bytes()
        (source / "part-1.parquet").write_bytes(whole[:-10])
        with pytest.raises(CorpusSourceError, match=r"^part-1.parquet cannot be read as parquet"):
            embed(source, output, bundle=tiny)
        assert not output.exists()
        report = embed(source, output, bundle=tiny, on_error="skip")
        assert not report.complete
        assert not report.interrupted
        assert len(report.failures) == 1
        assert report.failures[0].startswith("part-1.parquet cannot be read")
        assert report.rows_done == 500
        assert "_SUCCESS" not in names(output)
        # Once repaired, the file is embedded into the same output.
        (source / "part-1.parquet").write_bytes(whole)
        report = embed(source, output, bundle=tiny, on_error="skip")
        assert (report.parts_run, report.rows_run) == (1, 250)
        assert report.digest == digest_of_source(source, tiny)

    def damage(self, file: Path) -> None:
        """Overwrite the data of the second row group but not the footer."""
        offset = pq.read_metadata(file).row_group(1).column(1).data_page_offset
        content = bytearray(file.read_bytes())
        content[offset : offset + 30] = b"\xff" * 30
        file.write_bytes(content)

    def test_a_damaged_page(self, source: Path, output: Path, tiny: Path) -> None:
        self.damage(source / "part-1.parquet")
        with pytest.raises(CorpusSourceError, match=r"part-1.parquet, rows "):
            embed(source, output, bundle=tiny, rows_per_part=60)
        report = embed(source, output, bundle=tiny, rows_per_part=60, on_error="skip")
        assert not report.complete
        assert all(reason.startswith("part-1.parquet, rows ") for reason in report.failures)
        assert report.rows_done == 690
        assert len(report.failures) == 1

    def test_a_text_that_breaks_the_tokenizer(
        self, source: Path, output: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = Embedder.embed

        def embed_texts(self: Embedder, texts: Any, **options: Any) -> Any:
            if "w5 w2 " in texts:
                raise TokenizationError("breaks the tokenizer", texts.index("w5 w2 "))
            return plain(self, texts, **options)

        monkeypatch.setattr(Embedder, "embed", embed_texts)
        row = texts_of(250).index("w5 w2 ")
        with pytest.raises(CorpusSourceError, match=f"part-0.parquet, row {row}: the text breaks"):
            embed(source, output, bundle=tiny)

    def test_many_failures_end_the_run(self, source: Path, output: Path, tiny: Path) -> None:
        with pytest.raises(
            CorpusError, match="21 parts failed, the last one: x, rows 0 to 0: boom"
        ):
            embed(source, output, bundle=tiny, rows_per_part=1, engine=FailingEngine())

    def test_an_output_that_cannot_be_written(
        self, source: Path, output: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("embedrt.corpus.part.write_file", full)
        with pytest.raises(CorpusOutputError, match=r"No space left.*run the same command again"):
            embed(source, output, bundle=tiny)

    def test_a_disk_that_is_full(
        self, source: Path, output: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was written of a part is removed: it would take the space."""

        def fsync(_: int) -> None:
            raise OSError(28, "No space left on device")

        embed(source, output, bundle=tiny, rows_per_part=100)
        (output / parts_in(output)[0]).unlink()
        before = names(output)
        monkeypatch.setattr("embedrt.corpus.output.os.fsync", fsync)
        with pytest.raises(CorpusOutputError, match=r"No space left.*run the same command again"):
            embed(source, output, bundle=tiny, rows_per_part=100)
        assert names(output) == [name for name in before if name != "_SUCCESS"]

    def test_a_run_that_takes_files_for_remnants(
        self, source: Path, output: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second run of the same work that begins removes what the first one is writing."""
        synced = os.fsync
        done = list[bool]()

        def fsync(descriptor: int) -> None:
            synced(descriptor)
            if len(done) % 2 == 0:
                for file in output.glob(".tmp-*"):
                    file.unlink(missing_ok=True)
            done.append(True)

        monkeypatch.setattr("embedrt.corpus.output.os.fsync", fsync)
        monkeypatch.setattr("embedrt.corpus.local.WRITERS", 1)
        assert embed(source, output, bundle=tiny).digest == digest_of_source(source, tiny)
        assert len(done) == 2 * len(names(output))


class FailingEngine:
    """An engine in which every part fails."""

    def run(self, _work: Any, _plan: Any, wanted: Iterator[Any], stop: Event) -> Iterator[Any]:
        for part in wanted:
            if stop.is_set():
                return
            yield (
                Failure(
                    source="x",
                    first=0,
                    rows=part.rows,
                    reason="x, rows 0 to 0: boom",
                    is_source=False,
                ),
                0,
            )


class TestMerge:
    def merged(self, source: Path, output: Path, tiny: Path, megabytes: float) -> Report:
        return embed(source, output, bundle=tiny, rows_per_part=60, merge_mb=megabytes)

    @pytest.mark.parametrize("megabytes", [0.000001, 0.01, 100])
    def test_the_same_rows_in_larger_files(
        self, source: Path, output: Path, tiny: Path, megabytes: float
    ) -> None:
        report = self.merged(source, output, tiny, megabytes)
        assert report.digest == digest_of_source(source, tiny)
        expected = {0.000001: 15, 100: 1}.get(megabytes)
        assert expected is None or len(parts_in(output)) == expected
        assert pq.read_table(output).drop(["embedding"]).equals(pq.read_table(source))
        assert self.merged(source, output, tiny, megabytes).parts_run == 0
        assert embed(source, output, bundle=tiny, rows_per_part=60).digest == report.digest

    def test_killed_between_a_merge_and_its_end(
        self, source: Path, output: Path, tiny: Path, tmp_path: Path
    ) -> None:
        embed(source, output, bundle=tiny, rows_per_part=60)
        parts = [output / name for name in parts_in(output)]
        for part in parts:
            shutil.copy(part, tmp_path)
        digest = self.merged(source, output, tiny, 100).digest
        for part in parts[3:7]:
            shutil.copy(tmp_path / part.name, output)
        (output / "_SUCCESS").unlink()
        report = embed(source, output, bundle=tiny, rows_per_part=60)
        assert report.parts_run == 0
        assert report.digest == digest
        assert len(parts_in(output)) == 1

    def test_a_missing_merged_file(self, source: Path, output: Path, tiny: Path) -> None:
        digest = self.merged(source, output, tiny, 0.005).digest
        assert len(parts_in(output)) > 3
        (output / parts_in(output)[1]).unlink()
        report = self.merged(source, output, tiny, 100)
        assert report.parts_run > 0
        assert report.digest == digest
        assert pq.read_table(output).drop(["embedding"]).equals(pq.read_table(source))


class TestFileSystems:
    def test_of_pyarrow(self, source: Path, output: Path, tiny: Path) -> None:
        report = embed(
            source.name,
            "output",
            bundle=tiny,
            source_filesystem=fs.SubTreeFileSystem(str(source.parent), fs.LocalFileSystem()),
            output_filesystem=fs.SubTreeFileSystem(str(output.parent), fs.LocalFileSystem()),
        )
        assert report.digest == digest_of_source(source, tiny)
        assert [name for name in names(output) if name.startswith(".")] == []

    def test_of_fsspec(self, source: Path, output: Path, tiny: Path) -> None:
        import fsspec  # a dependency of huggingface-hub

        local = fsspec.filesystem("file")
        report = embed(
            str(source), str(output), bundle=tiny, source_filesystem=local, output_filesystem=local
        )
        assert report.digest == digest_of_source(source, tiny)
        again = embed(
            str(source), str(output), bundle=tiny, source_filesystem=local, output_filesystem=local
        )
        assert again.parts_run == 0
