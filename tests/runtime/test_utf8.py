"""Tests that text files are read as UTF-8, with or without a byte order mark, and nothing else."""

from __future__ import annotations

import codecs
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from embedrt.cli import main
from embedrt.cli.lines import read_texts
from embedrt.text.utf8 import decode, read_lines

MARK = codecs.BOM_UTF8
ONE_LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"))
NO_NUL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"))


def lines(content: bytes) -> list[str]:
    return list(read_lines(io.BytesIO(content), "file"))


@given(st.lists(ONE_LINE), st.sampled_from(["\n", "\r\n"]), st.booleans())
@example(["\ufeff", "\ufeffa"], "\n", True)
@example([""], "\n", True)
def test_lines_round_trip(texts: list[str], end: str, marked: bool) -> None:
    content = "".join(text + end for text in texts).encode()
    assume(marked or not content.startswith(MARK))
    assume(content[:4].count(0) < 2)  # it would look like UTF-16, see below
    assert lines(MARK * marked + content) == texts


@given(NO_NUL, NO_NUL)
def test_the_last_line_needs_no_newline(first: str, last: str) -> None:
    content = f"{first}\n{last}".encode()
    assert lines(MARK + content) == ([first, last] if last else [first])


def test_a_file_with_only_a_mark_is_empty() -> None:
    assert lines(MARK) == lines(b"") == []
    assert lines(MARK + b"\n") == [""]
    assert decode(MARK) == decode(b"") == ""


def test_a_mark_counts_only_at_the_start() -> None:
    assert lines(MARK + MARK + b"a\n" + MARK + b"b") == ["\ufeffa", "\ufeffb"]
    assert decode(MARK + MARK + b"a") == "\ufeffa"


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-32-le", "UTF-32LE"),
        ("utf-32-be", "UTF-32BE"),
    ],
)
def test_wide_encodings_are_named(encoding: str, name: str) -> None:
    content = "How many\n".encode(encoding)
    told = f"is {name}; save it as UTF-8: iconv -f {name} -t UTF-8 FILE > NEW_FILE"
    with pytest.raises(ValueError, match="UTF") as caught:
        lines(content)
    assert str(caught.value) == f"file {told}"
    with pytest.raises(ValueError, match="UTF") as caught:
        decode(content)
    assert str(caught.value) == told


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE])
@pytest.mark.parametrize("text", ["", "\n", "é"])
def test_a_wide_mark_is_enough(mark: bytes, text: str) -> None:
    with pytest.raises(ValueError, match="is UTF-16"):
        lines(mark + text.encode("utf-16-be" if mark == codecs.BOM_UTF16_BE else "utf-16-le"))


@pytest.mark.parametrize("content", [b"a\0b", b"\0", b"a\0", b"ab\0\0", b"\0\0ab"])
def test_a_nul_is_text(content: bytes) -> None:
    assert lines(content) == [content.decode()]


def test_other_bytes_are_named_by_their_line() -> None:
    with pytest.raises(ValueError, match=r"^file, line 2 is not UTF-8: .*byte 0xe9.* -t UTF-8 "):
        lines("a\né\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^is not UTF-8: .*byte 0xe9.*save it as UTF-8"):
        decode("é".encode("latin-1"))


class TestFiles:
    @pytest.mark.parametrize("mark", [b"", MARK])
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_json_lines(self, tmp_path: Path, mark: bytes, end: bytes) -> None:
        """A blank line in JSON lines is ignored, wherever it is."""
        rows = [b'{"t": "a"}', b"", b' {"t": "\\ufeffb"} ', b" \t ", b'{"t": ""}', b"", b""]
        (tmp_path / "x.jsonl").write_bytes(mark + end.join(rows))
        assert list(read_texts(str(tmp_path / "x.jsonl"), "t")) == ["a", "\ufeffb", ""]

    def test_json_lines_are_counted_with_the_blank_ones(self, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_bytes(b'{"t": "a"}\n\n\n{"u": "b"}\n')
        with pytest.raises(ValueError, match=r"x\.jsonl, line 4 has no field 't'"):
            list(read_texts(str(tmp_path / "x.jsonl"), "t"))

    def test_a_blank_line_of_a_text_file_is_a_text(self, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_bytes(MARK + b"\n\na\n")
        assert list(read_texts(str(tmp_path / "x.txt"), None)) == ["", "", "a"]

    @pytest.mark.parametrize("field", [None, "t"])
    def test_utf16(
        self, tiny: Path, tmp_path: Path, field: str | None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        content = "w1\nw2\n" if field is None else json.dumps({"t": "w1"})
        (tmp_path / "x").write_bytes(content.encode("utf-16"))
        options = [] if field is None else ["--field", field]
        assert main(["encode", str(tiny), str(tmp_path / "x"), *options]) == 1
        assert capsys.readouterr().err == (
            f"embedrt: {tmp_path / 'x'} is UTF-16; save it as UTF-8: "
            "iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE\n"
        )

    def test_stdin(
        self,
        tiny: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The first text is found by its word and printed without the mark."""
        given = io.TextIOWrapper(io.BytesIO(MARK + b"w3\nw1\n"), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", given)
        assert main(["search", str(tiny), "--query", "w3", "--top-k", "1"]) == 0
        assert capsys.readouterr().out == "1.0000\tw3\n"
