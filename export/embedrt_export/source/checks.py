"""Checks settings files against tables that define the kind and the handling of each key."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.source.files import read_json

JsonObject = dict[str, Any]
Handling = Literal["honored", "overruled", "refused"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A set of JSON values that a key accepts."""

    name: str
    accepts: Callable[[Any], bool]

    @property
    def or_null(self) -> Kind:
        """The same kind, or null."""
        return Kind(f"{self.name} or null", lambda value: value is None or self.accepts(value))

    @property
    def or_list(self) -> Kind:
        """The same kind, or a list of values of this kind."""
        return Kind(f"{self.name} or a list of these", lambda v: self.accepts(v) or self._all(v))

    @property
    def in_list(self) -> Kind:
        """A list of values of this kind."""
        return Kind(f"a list whose elements are each {self.name}", self._all)

    def _all(self, value: Any) -> bool:
        return isinstance(value, list) and all(map(self.accepts, value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    """Whether a value is a string that can be encoded as UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= mark <= "\udfff" for mark in value)


ANY = Kind("any value", lambda _: True)
TEXT = Kind("a string of valid Unicode", _is_text)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
FLAG_OR_TEXT = Kind(
    "true, false or a string of valid Unicode",
    lambda value: FLAG.accepts(value) or TEXT.accepts(value),
)
WHOLE = Kind("a whole number", _is_whole)
COUNT = Kind("a whole number of at least 1", lambda value: _is_whole(value) and value >= 1)
NUMBER = Kind("a number", lambda value: _is_whole(value) or isinstance(value, float))
POSITIVE = Kind("a positive number", lambda value: NUMBER.accepts(value) and value > 0)
SIZE = Kind("a number of at least 1", lambda value: NUMBER.accepts(value) and value >= 1)
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
SIDE = Kind('"left" or "right"', lambda value: value in ("left", "right"))
LIST = Kind("a list", lambda value: isinstance(value, list))
TEXTS = TEXT.in_list


def object_of(kind: Kind) -> Kind:
    """Return the kind of objects whose values are all of `kind`."""
    return Kind(
        f"an object whose values are each {kind.name}",
        lambda value: (
            isinstance(value, dict)
            and all(_is_text(name) and kind.accepts(inner) for name, inner in value.items())
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key: the values it accepts and how the exporter handles it."""

    kind: Kind
    handling: Handling
    reason: str
    """How the key is honored, why it has no effect, or why it is refused."""
    harmless: tuple[Any, ...] = ()
    """Values of a refused key that are accepted because they have no effect."""


def honored(kind: Kind, how: str) -> Key:
    """Return a key that has the same effect as in sentence-transformers."""
    return Key(kind=kind, handling="honored", reason=how)


def overruled(kind: Kind, why: str) -> Key:
    """Return a key that is ignored because it does not affect embeddings."""
    return Key(kind=kind, handling="overruled", reason=why)


def refused(why: str, *, but: tuple[Any, ...] = (None,), kind: Kind = ANY) -> Key:
    """Return a key that stops the export unless its value is among `but`."""
    return Key(kind=kind, handling="refused", reason=why, harmless=but)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The keys of one kind of settings file, or of an object in it."""

    keys: Mapping[str, Key]
    unknown: Literal["ignored", "refused"]
    """How other keys are handled: ignored or refused, depending on what the libraries do."""
    inside: Mapping[str, Table] = field(default_factory=dict)
    """Tables for keys whose values are objects."""


def read_object(file: Path) -> JsonObject:
    """Return the object in a JSON file; an empty one if the file does not exist."""
    content = read_json(file) if file.exists() else {}
    if not isinstance(content, dict):
        raise SourceError(f"{file} is not a JSON object")
    return content


def check_object(
    root: Path, file: Path, content: JsonObject, table: Table, *, within: str = ""
) -> list[str]:
    """Check an object against its table; return one message for each refused key.

    `root` is the model's folder and contains `file`; `within` is the prefix for keys of a nested
    object. Raises SourceError naming the file and the key if a value is of the wrong kind.
    """
    refusals: list[str] = []
    label = file.relative_to(root)
    for name, value in content.items():
        key = table.keys.get(name)
        place = within + name
        if key is None:
            if table.unknown == "refused":
                refusals.append(f"{label} sets {place}, which embedrt does not know")
            continue
        if key.handling == "refused" and not _is_one_of(value, key.harmless):
            refusals.append(f"{label} sets {place} to {reprlib.repr(value)}: {key.reason}")
            continue
        require_kind(file, place, value, key.kind)
        if name in table.inside and isinstance(value, dict):
            inside = table.inside[name]
            refusals += check_object(root, file, value, inside, within=f"{place}.")
    return refusals


def refuse_for(folder: Path, reasons: Sequence[str]) -> None:
    """Raise UnsupportedModelError with all reasons against an export, unless there is none."""
    if reasons:
        raise refusal(folder, *reasons)


def refusal(folder: Path, *reasons: str) -> UnsupportedModelError:
    """Return the error for a model that cannot be exported."""
    return UnsupportedModelError(
        f"{folder} cannot be exported: {'; '.join(reasons)}. Use the library that it was made with"
    )


def require_kind(file: Path, name: str, value: Any, kind: Kind) -> None:
    """Raise SourceError unless the value of the key `name` is of this kind."""
    if not kind.accepts(value):
        raise SourceError(
            f"{file} sets {name} to {reprlib.repr(value)}; expected {kind.name}. Correct the file, "
            "or take it from the model's author again"
        )


def _is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether a value is in `values`; 1 and true differ, as do 0 and false."""
    return any(type(value) is type(other) and value == other for other in values)
