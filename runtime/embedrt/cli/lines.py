"""Reading texts from a file: one per line, or one field of JSON lines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext

from embedrt.files import expand
from embedrt.text.utf8 import read_lines

STDIN = "-"
JSON_SPACE = " \t\r"


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments FILE and --field."""
    parser.add_argument(
        "file",
        nargs="?",
        default=STDIN,
        metavar="FILE",
        help="texts in UTF-8, one per line; - is stdin",
    )
    parser.add_argument(
        "--field", help="read FILE as JSON lines and take this field; blank lines are skipped"
    )


def read_texts(file: str, field: str | None) -> Iterator[str]:
    """Yield the texts; raise ValueError or TypeError naming the file and line of an invalid one.

    Without `field`, a blank line is an empty text; in JSON lines, blank lines are skipped.
    """
    name = "stdin" if file == STDIN else file
    with nullcontext(sys.stdin.buffer) if file == STDIN else expand(file).open("rb") as stream:
        for number, line in enumerate(read_lines(stream, name), start=1):
            if field is None:
                yield line
            elif line.strip(JSON_SPACE):
                yield _field_of(line, field, f"{name}, line {number}")


def _field_of(line: str, field: str, place: str) -> str:
    try:
        value = json.loads(line)[field]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON: {error}") from None
    except (KeyError, TypeError, IndexError):
        raise ValueError(f"{place} has no field {field!r}") from None
    if not isinstance(value, str):
        raise TypeError(f"{place}: field {field!r} is {type(value).__name__}; expected a string")
    return value
