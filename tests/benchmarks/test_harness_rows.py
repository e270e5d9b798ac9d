"""Tests that rows survive being written and read, also after an interrupted run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness.rows import Row, append_rows, latest_rows, read_rows
from benchmarks.machine.describe import Machine

MACHINE = Machine("a processor", ("avx2", "avx512_vnni"), 2, 2**33, "Linux")
ROW = Row(
    "embedrt int8",
    "all-MiniLM-L6-v2",
    "corpus",
    "seconds",
    "seconds",
    (0.1, 0.30000000000000004),
    400,
    20_000,
    MACHINE,
    {"onnxruntime": "1.31.1"},
    "0123456789ab",
)


def test_rows_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "new" / "rows.jsonl"
    failed = replace(ROW, values=(), measure="", unit="", error="crashed: \ud800 \n \r \u2028 é")
    append_rows(file, [ROW, failed])
    append_rows(file, [ROW])
    assert read_rows(file) == [ROW, failed, ROW]


@given(st.text(), st.lists(st.floats(allow_nan=False), max_size=3))
def test_any_text_and_any_value_round_trip(text: str, values: list[float]) -> None:
    row = replace(ROW, contender=text, error=text, values=tuple(values))
    assert Row.from_json(row.to_json()) == row


def test_a_line_is_plain_json() -> None:
    fields = json.loads(ROW.to_json())
    assert fields["machine"]["instruction_sets"] == ["avx2", "avx512_vnni"]
    assert fields["values"] == [0.1, 0.30000000000000004]


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "rows.jsonl") == []


def test_a_truncated_file_keeps_its_complete_rows(tmp_path: Path) -> None:
    rows = [replace(ROW, texts=number) for number in range(3)]
    file = tmp_path / "rows.jsonl"
    append_rows(file, rows)
    content = file.read_bytes()
    for size in range(len(content) + 1):
        file.write_bytes(content[:size])
        whole = content[:size].count(b"\n")
        assert read_rows(file) == rows[:whole]
        append_rows(file, [ROW])
        assert read_rows(file) == [*rows[:whole], ROW]


def test_new_measurements_replace_old_ones() -> None:
    other = replace(ROW, contender="fastembed")
    newer = replace(ROW, values=(9.0,))
    assert latest_rows([ROW, other, newer]) == [newer, other]
