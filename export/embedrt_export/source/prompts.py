"""The prompts in a model's settings, as sentence-transformers takes them from there."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt.text.inputs import start_of
from embedrt.text.prompts import ALWAYS, DOCUMENT

EXTRAS = "config_sentence_transformers.json"

# sentence-transformers knows these by their ids, whatever their files say.
UNPOOLED = ("hkunlp/instructor-base", "hkunlp/instructor-large", "hkunlp/instructor-xl")


def refuse_unpooled_prompts(model: str) -> None:
    """Raise UnsupportedModelError for a hub id whose prompts are left out of the pooling."""
    if model in UNPOOLED:
        raise UnsupportedModelError(
            f"{model} cannot be exported: sentence-transformers leaves its prompts out of the "
            "pooling (include_prompt is false, set by this id)"
        )


def read_prompts(extras: Mapping[str, Any], file: Path) -> tuple[dict[str, str], str | None]:
    """Return the prompts, null read as empty, and the name of the default one.

    `extras` is the content of `file`. Raises SourceError naming the key that is wrong.
    """
    named = extras.get("prompts", {})
    if not isinstance(named, dict):
        raise _wrong(file, "prompts", named, "an object of texts by name")
    for name, text in named.items():
        if not isinstance(text, str | None):
            raise _wrong(file, f"prompts[{start_of(name)}]", text, "a string or null")
        if not all(map(_is_unicode, (name, text or ""))):
            raise _wrong(file, f"prompts[{start_of(name)}]", text, "no half of a character")
    prompts = {name: text or "" for name, text in named.items()}
    default = extras.get("default_prompt_name")
    known = ALWAYS | prompts
    if not isinstance(default, str | None) or (default is not None and default not in known):
        expected = f"null or one of {', '.join(map(repr, sorted(known)))}"
        raise _wrong(file, "default_prompt_name", default, expected)
    return prompts, default if default in prompts else None


def lacks_document_prompt(folder: Path) -> bool:
    """Whether the model in `folder` has prompts for passages or a corpus, and none for documents.

    Read from its file once more, for the proof, which takes nothing from the export's reading.
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
