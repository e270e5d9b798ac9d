"""Script that loads models and prints which of their files the libraries access.

Each argument is a model's folder. The output is a JSON object that maps each folder to the names of
the files that were opened or looked up, including files that do not exist.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

asked: set[str] = set()


def note(path: object) -> None:
    """Record a path that the process accesses."""
    if isinstance(path, str | os.PathLike):
        asked.add(os.path.abspath(os.fspath(path)))  # noqa: PTH100 - does not access the file


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    """Record every file that Python opens; an audit hook."""
    if event == "open":
        note(arguments[0])


def noted(look: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper of `look`, a function of `os`, that records each path."""

    def look_and_note(path: Any, *arguments: Any, **options: Any) -> Any:
        note(path)
        return look(path, *arguments, **options)

    return look_and_note


def main() -> None:
    """Load each model and print the accessed files."""
    sys.addaudithook(listen)
    for name in ("stat", "lstat"):  # audit hooks miss files opened by Rust and C++
        setattr(os, name, noted(getattr(os, name)))
    wanted = {}
    for folder in sys.argv[1:]:
        asked.clear()
        SentenceTransformer(folder, device="cpu", local_files_only=True)
        names = [
            Path(path).relative_to(folder) for path in asked if Path(path).is_relative_to(folder)
        ]
        wanted[folder] = sorted(name.as_posix() for name in names if name != Path())
    sys.stdout.write(json.dumps(wanted))


if __name__ == "__main__":
    main()
