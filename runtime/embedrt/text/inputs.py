"""Validation of the texts that callers pass, before any work is done."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, KeysView, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

from embedrt.pair import Pair

QUOTED_CHARACTERS = 40
NOT_A_PAIR = (str, bytes, bytearray, memoryview, Mapping, AbstractSet)
NOT_A_BATCH = (bytes, bytearray, memoryview, Mapping, AbstractSet)

Texts = str | Iterable[str]
Pairs = Iterable[Any]
"""One pair of texts, or any ordered iterable of pairs."""


def as_batch(texts: Iterable[object], name: str = "texts") -> list[str]:
    """Return the texts as well-formed strings; raise TypeError naming the first non-string.

    Accepts any ordered iterable: list, tuple, generator, pandas Series, numpy or pyarrow array.
    `name` is that of the argument, for error messages.
    """
    elements: list[Any] = list(_elements(texts, name))
    with suppress(TypeError):  # whose element is named below
        if all(map(str.isascii, elements)):
            return elements
    return [as_text(text, index, name) for index, text in enumerate(elements)]


def stream(texts: Iterable[object]) -> Iterator[str]:
    """Yield the texts like `as_batch`, but lazily, for iterables that do not fit in memory."""
    if isinstance(texts, str):
        raise TypeError("texts is one str; embed_stream takes an iterable of them: pass [text]")
    for index, text in enumerate(_elements(texts)):
        yield as_text(text, index)


def as_text(text: object, index: int | None = None, name: str = "texts") -> str:
    """Return `text` with unpaired surrogates replaced; raise TypeError if it is not a str."""
    if not isinstance(text, str):
        place = name.removesuffix("s") if index is None else f"{name}[{index}]"
        raise TypeError(f"{place} is {_describe(text)}; every text must be a str")
    return well_formed(text)


def as_pairs(pairs: Any) -> tuple[list[Pair], bool]:
    """Return the pairs as well-formed strings, and whether they are one pair.

    Accepts what ``CrossEncoder.predict`` does: a pair is a list, tuple or array of two str, and
    pairs are an ordered iterable of pairs, or an array with two columns. Raises TypeError naming
    the first element that is not a pair.
    """
    if getattr(pairs, "ndim", 1) == 2:  # an array with a pair in each row
        pairs = list(pairs)
    elements = list(_elements(pairs, "pairs", "pairs of str: (query, text)"))
    if elements and isinstance(elements[0], str):
        return [as_pair(elements)], True
    return [as_pair(pair, index) for index, pair in enumerate(elements)], False


def as_pair(pair: Any, index: int | None = None) -> Pair:
    """Return the two texts of a pair as `as_text` does; raise TypeError if it is not a pair."""
    place = "pair" if index is None else f"pairs[{index}]"
    if isinstance(pair, NOT_A_PAIR) or not hasattr(pair, "__len__") or len(pair) != 2:
        raise TypeError(f"{place} is {_describe(pair)}; every pair must be two str: (query, text)")
    first, second = pair
    return _part(first, f"{place}[0]"), _part(second, f"{place}[1]")


def _part(text: object, place: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{place} is {_describe(text)}; both texts of a pair must be str")
    return well_formed(text)


def well_formed(text: str) -> str:
    r"""Join surrogate pairs and replace lone surrogates by U+FFFD, to make the text valid Unicode.

    Surrogates come from JSON escapes (``"\ud83d"``) and from ``os.fsdecode``. The tokenizer rejects
    them with an error that names neither the text nor the cause.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def start_of(text: str | Pair) -> str:
    """Return the quoted start of a text, or of both texts of a pair, for error messages."""
    if isinstance(text, tuple):
        return " and ".join(map(start_of, text))
    return repr(text if len(text) <= QUOTED_CHARACTERS else f"{text[:QUOTED_CHARACTERS]}…")


def _elements(texts: object, name: str = "texts", content: str = "str") -> Iterable[object]:
    accepted = f"{'a str or ' if name == 'texts' else ''}an ordered iterable of {content}"
    # Refuses tables too: iterating one gives its column names.
    if isinstance(texts, NOT_A_BATCH) or getattr(texts, "ndim", 1) != 1:
        remedy = f": list({name})" if isinstance(texts, KeysView) else ""
        raise TypeError(f"{name} is {_describe(texts)}; pass {accepted}{remedy}")
    # Converts arrays to Python objects: iterating a pyarrow array gives pyarrow scalars.
    for convert in ("to_pylist", "tolist"):
        method = getattr(texts, convert, None)
        if callable(method):
            texts = method()
            break
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} is {_describe(texts)}; pass {accepted}")
    return texts


def _describe(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, float) and math.isnan(value):
        return "NaN (a missing value?)"
    name = type(value).__name__
    if (dimensions := getattr(value, "ndim", 1)) != 1:
        name = f"{name} of {dimensions} dimensions"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
