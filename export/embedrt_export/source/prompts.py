"""Reads the prompts in a model's settings as sentence-transformers does."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedrt.errors import SourceError
from embedrt.text.inputs import start_of
from embedrt.text.prompts import ALWAYS, DOCUMENT

EXTRAS = "config_sentence_transformers.json"

# sentence-transformers sets include_prompt to false for these ids, regardless of their files.
UNPOOLED = ("hkunlp/instructor-base", "hkunlp/instructor-large", "hkunlp/instructor-xl")


def read_prompts(extras: Mapping[str, Any], file: Path) -> tuple[dict[str, str], str | None]:
    """Return the prompts by name, with null as an empty prompt, and the default prompt's name.

    `extras` is the content of `file`. Raises SourceError naming the file and the invalid key.
    """
    named = extras.get("prompts", {})
    if not isinstance(named, dict):
        raise _wrong(file, "prompts", named, "an object of texts by name")
    for name, text in named.items():
        if not isinstance(text, str | None):
            raise _wrong(file, f"prompts[{start_of(name)}]", text, "a string or null")
        if not all(map(_is_unicode, (name, text or ""))):
            raise _wrong(file, f"prompts[{start_of(name)}]", text, "no unpaired surrogate")
    prompts = {name: text or "" for name, text in named.items()}
    default = extras.get("default_prompt_name")
    known = ALWAYS | prompts
    if not isinstance(default, str | None) or (default is not None and default not in known):
        expected = f"null or one of {', '.join(map(repr, sorted(known)))}"
        raise _wrong(file, "default_prompt_name", default, expected)
    return prompts, default if default in prompts else None


def lacks_document_prompt(folder: Path) -> bool:
    """Whether the model in `folder` has a prompt ``passage`` or ``corpus`` and no ``document``.

    The file is read again, so that the comparison is independent of the exporter's settings.
    """
    file = folder / EXTRAS
    named = json.loads(file.read_bytes()).get("prompts", {}) if file.is_file() else {}
    return next((name for name in DOCUMENT if name in named), DOCUMENT[0]) != DOCUMENT[0]


def _wrong(file: Path, key: str, value: object, expected: str) -> SourceError:
    return SourceError(
        f"{file} sets {key} to {reprlib.repr(value)}; expected {expected}. Correct the file, or "
        "take it from the model's author again"
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
