"""Text files: UTF-8, with or without a byte order mark at the very start.

The mark is no text: where it stayed, it would be the first character of the first text. Elsewhere
in a file, U+FEFF is a character like any other.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

SAVE_AS_UTF8 = "save it as UTF-8: iconv -f {} -t UTF-8 FILE > NEW_FILE"

MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
# Which of the first four bytes are zero, in a text without a mark that starts in ASCII.
ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
}


def decode(content: bytes) -> str:
    """Decode a whole text file.

    Raises ValueError, to be put behind the file's name: ``is UTF-16; ...``.
    """
    _refuse_wide(content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(error)) from None


def read_lines(file: BinaryIO, name: str) -> Iterator[str]:
    r"""Yield the lines of a text file without their ends, ``\n`` or ``\r\n``.

    A line ends at a newline and nowhere else: a form feed or U+2028 is part of a text. Raises
    ValueError naming the file by `name`, the line, and what to do.
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
    """Raise ValueError where a file's first bytes are those of UTF-16 or UTF-32.

    Without a mark, such a text is valid UTF-8, with a NUL beside each character.
    """
    by_mark = (name for mark, name in MARKS if start.startswith(mark))
    zeros = tuple(byte == 0 for byte in start[:4])
    if name := next(by_mark, ZEROS.get(zeros)):
        raise ValueError(f"is {name}; {SAVE_AS_UTF8.format(name)}")


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8: {error}; {SAVE_AS_UTF8.format('ITS_ENCODING')}"
