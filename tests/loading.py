"""Run in a process of its own: load models, and tell which of their files were asked for.

Each argument is a model's folder. Printed is a JSON object from folder to the names of the files
that were opened or looked for, whether they are there or not.
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
    """Remember a path that the process asks the system for."""
    if isinstance(path, str | os.PathLike):
        asked.add(os.path.abspath(os.fspath(path)))  # noqa: PTH100 - which asks nothing itself


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    """Hear of every file that Python opens."""
    if event == "open":
        note(arguments[0])


def noted(look: Callable[..., Any]) -> Callable[..., Any]:
    """Return `look`, a function of `os`, with a note of each path that it is given."""

    def look_and_note(path: Any, *arguments: Any, **options: Any) -> Any:
        note(path)
        return look(path, *arguments, **options)

    return look_and_note


def main() -> None:
    """Load each model."""
    sys.addaudithook(listen)
    for name in ("stat", "lstat"):  # Rust and C++ open what Python has looked for
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
