"""Reads the fields of a request, and names the one that is wrong: ``input[3] is a number``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from embedrt.serve.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The texts of a request."""

    values: Sequence[str]
    name: str
    """The field that holds them, for error messages."""
    is_one: bool
    """Whether the field is one string, and no list."""

    def place(self, index: int | None) -> str:
        """Return the name of one text: ``input[3]``, or ``input`` if it is one string."""
        return self.name if self.is_one or index is None else f"{self.name}[{index}]"


def texts_of(value: object, name: str, most: int) -> Texts:
    """Return the texts of a field that is a string or a list of them.

    Raises RequestError for anything else, for an empty list and for more than `most` texts.
    """
    if isinstance(value, str):
        return Texts(values=[value], name=name, is_one=True)
    if not isinstance(value, list):
        raise wrong(name, value, "a string or a list of strings")
    check_number(value, name, "text", most)
    for index, text in enumerate(value):
        if not isinstance(text, str):
            raise wrong(f"{name}[{index}]", text, "a string")
    return Texts(values=value, name=name, is_one=False)


def check_number(values: Sequence[object], name: str, what: str, most: int) -> None:
    """Raise RequestError for a field without an element, or with more than `most`."""
    if not values:
        raise RequestError("empty", f"{name} is empty; send at least one {what}", field=name)
    if len(values) > most:
        raise RequestError(
            "invalid",
            f"{name} has {len(values):,} {what}s; send at most {most:,} at once, or start the "
            "server with a larger --max-texts",
            field=name,
        )


def is_token_ids(value: object) -> bool:
    """Whether a field holds token ids: a list of integers, or a list that starts with such."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, list):
        first = first[0] if first else None
    return isinstance(first, int) and not isinstance(first, bool)


def flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return a boolean field; null and absence mean the default."""
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise wrong(name, value, "true or false")
    return value


def word(
    fields: Mapping[str, Any], name: str, known: Sequence[str] | None = None, *, within: str = ""
) -> str | None:
    """Return a string field, one of `known`; None for null and absence.

    `within` is the name of the object that has the field, for messages.
    """
    value = fields.get(name)
    if value is None:
        return None
    name = f"{within}.{name}" if within else name
    if not isinstance(value, str):
        raise wrong(name, value, "a string")
    if known is not None and value not in known:
        expected = ", ".join(known)
        raise RequestError(
            "invalid", f"{name} is {value[:40]!r}; expected one of {expected}", field=name
        )
    return value


def required(fields: Mapping[str, Any], name: str) -> str:
    """Return a string field that must be there; it may be empty."""
    value = word(fields, name)
    if value is None:
        raise RequestError("invalid", f"{name} is missing; expected a string", field=name)
    return value


def count_of(fields: Mapping[str, Any], name: str) -> int | None:
    """Return a field that is a number of at least 1; None for null and absence."""
    return _whole(fields.get(name), name, inf, "a whole number from 1")


def dimensions_of(fields: Mapping[str, Any], dimension: int, *, within: str = "") -> int | None:
    """Return the field ``dimensions``; None for null, absence, and all components."""
    name = f"{within}.dimensions" if within else "dimensions"
    expected = f"1 to {dimension}, the components of this model"
    value = _whole(fields.get("dimensions"), name, dimension, expected)
    return None if value == dimension else value


def _whole(value: Any, name: str, most: float, expected: str) -> int | None:
    """Return a whole number from 1 to `most`; None for null and absence."""
    if value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and 1 <= value <= most:
        return int(value)
    raise wrong(name, value, expected, shown=f"{value}" if whole and abs(value) < 1e9 else None)


def wrong(place: str, value: object, expected: str, *, shown: str | None = None) -> RequestError:
    """Return the error for the value at `place`, which is shown by its JSON type by default."""
    message = f"{place} is {shown or describe(value)}; expected {expected}"
    return RequestError("invalid", message, field=place)


def describe(value: object) -> str:
    """Return the JSON type of a value, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"
