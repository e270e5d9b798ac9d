"""Reading text files in UTF-8, with or without a byte order mark.

A byte order mark at the start of a file is removed; otherwise it would become the first character
of the first text. U+FEFF elsewhere in a file is kept.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

SAVE_AS_UTF8 = "save it as UTF-8: iconv -f {} -t UTF-8 FILE > NEW_FILE"

MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # checked first: it starts with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
# Which of the first four bytes are zero, in a text that starts in ASCII and has no mark.
ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
}


def decode(content: bytes) -> str:
    """Decode the content of a text file.

    Raises ValueError with a message that completes the file's name: ``is UTF-16; ...``.
    """
    _refuse_wide(content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(error)) from None


def read_lines(file: BinaryIO, name: str) -> Iterator[str]:
    r"""Yield the lines of a text file without their ``\n`` or ``\r\n``.

    Only a newline ends a line: form feeds and U+2028 are part of a text. Raises ValueError with
    `name`, the line number, and a remedy.
    """
    first = file.readline()
    try:
        _refuse_wide(first)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
    first = first.removeprefix(codecs.BOM_UTF8)
    for number, line in enumerate(chain([first] if first else [], file), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}, line {number} {_not_utf8(error)}") from None
        yield text.removesuffix("\n").removesuffix("\r")


def _refuse_wide(start: bytes) -> None:
    """Raise ValueError if the first bytes of a file are those of UTF-16 or UTF-32.

    ASCII text in UTF-16 or UTF-32 without a mark is valid UTF-8, with NULs between the characters.
    """
    by_mark = (name for mark, name in MARKS if start.startswith(mark))
    zeros = tuple(byte == 0 for byte in start[:4])
    if name := next(by_mark, ZEROS.get(zeros)):
        raise ValueError(f"is {name}; {SAVE_AS_UTF8.format(name)}")


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8: {error}; {SAVE_AS_UTF8.format('ITS_ENCODING')}"
