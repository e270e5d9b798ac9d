"""Strict decoding of JSON values to dataclasses, for manifests."""

from __future__ import annotations

import dataclasses
import errno
import re
import reprlib
import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from embedrt.errors import BundleCorruptError, BundleFormatError

REMEDY = "copy or export the bundle again"  # ends the messages about damaged or invalid bundles
NO_MEMORY = re.compile(r"Failed to allocate memory|bad_alloc|bad allocation")  # in ONNX Runtime


def remedy_of(error: Exception) -> str:
    """Return what to do after an error: REMEDY, unless the process lacks memory or files."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE):
        return "close files, or raise the limit (ulimit -n)"
    if number == errno.ENOMEM or isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        return "there is too little memory: free some, or raise the limit"
    return REMEDY


def unreadable(path: Path, error: OSError) -> BundleCorruptError:
    """Return the error for a file of a bundle that cannot be read."""
    return BundleCorruptError(f"{path} cannot be read ({error.strerror}); {remedy_of(error)}")


def wrong(problem: str) -> BundleFormatError:
    """Return the error for an invalid value."""
    return BundleFormatError(f"{problem}; {REMEDY}")


def decode(value: object, kind: Any, place: str) -> Any:  # noqa: PLR0911 - one a kind
    """Decode a JSON value as `kind`, without accepting missing, unknown or converted fields.

    Raises BundleFormatError naming the first invalid value, below `place`.
    """
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(value, kind, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in arguments:
            raise wrong(f"{place} is {reprlib.repr(value)}; expected one of {list(arguments)}")
        return value
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not types.NoneType]
        return None if value is None else decode(value, _most_alike(value, inner), place)
    if origin is tuple:
        items = _expect(value, list, place)
        return tuple(decode(item, arguments[0], f"{place}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        items = _expect(value, dict, place)
        return {
            _expect(key, str, place): decode(item, arguments[1], _inside(place, key))
            for key, item in items.items()
        }
    if kind is float:
        return _decode_number(value, place)
    return _expect(value, kind, place)


def without_repeats(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object with these fields; raise ValueError for a repeated name.

    JSON parsers disagree about which of the repeated fields to use.
    """
    found = dict(fields)
    if len(found) < len(fields):
        names = [name for name, _ in fields]
        repeated = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"an object has {reprlib.repr(repeated)} twice")
    return found


def _most_alike(value: object, kinds: list[Any]) -> Any:
    """Return the dataclass that has the most of an object's fields, or the only kind."""
    if len(kinds) == 1 or not isinstance(value, dict):
        return kinds[0]
    return max(kinds, key=lambda kind: len(value.keys() & get_type_hints(kind).keys()))


def _decode_dataclass(value: object, kind: Any, place: str) -> Any:
    fields = _expect(value, dict, place)
    hints = get_type_hints(kind)
    required = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    if missing := sorted(required - fields.keys()):
        raise wrong(f"{place} lacks {', '.join(missing)}")
    if unknown := sorted(fields.keys() - hints.keys()):
        raise wrong(f"{place} has unknown fields: {reprlib.repr(unknown)}")
    return kind(
        **{
            name: decode(fields[name], hint, f"{place}.{name}")
            for name, hint in hints.items()
            if name in fields
        }
    )


def _decode_number(value: object, place: str) -> float:
    number = value if type(value) is int else _expect(value, float, place)
    if not abs(number) <= sys.float_info.max:
        raise wrong(f"{place} is {reprlib.repr(number)}; expected a finite number")
    return float(number)


def _expect(value: object, kind: Any, place: str) -> Any:
    if type(value) is not kind:
        raise wrong(
            f"{place} is {reprlib.repr(value)} ({type(value).__name__}); expected {kind.__name__}"
        )
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise wrong(f"{place} has an unpaired surrogate at {error.start}") from error
    return value


def _inside(place: str, name: str) -> str:
    """Return the path of a field for error messages, with long names shortened."""
    short = len(name) <= 60 and name.isprintable()
    return f"{place}.{name}" if short else f"{place}[{reprlib.repr(name)}]"
