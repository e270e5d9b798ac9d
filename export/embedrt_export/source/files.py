"""Reads text files of models and recipes: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from embedrt.errors import SourceError
from embedrt.text.utf8 import decode


def read_text(path: Path) -> str:
    """Read a text file; raise SourceError if it cannot be read or is not UTF-8."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SourceError(f"{path} {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; raise SourceError if it is not valid JSON."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON: {error}") from error


def file_names(folder: Path) -> list[str]:
    """Return the files in `folder` and its subfolders, relative to it, as a hub names them."""
    return [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]


def marked_files(folder: Path) -> list[str]:
    """Return the JSON files in `folder` and its subfolders that start with a byte order mark."""
    return sorted(
        str(file.relative_to(folder))
        for file in folder.rglob("*.json")
        if file.is_file() and _starts_with_mark(file)
    )


def _starts_with_mark(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
