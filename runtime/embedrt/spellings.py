"""How callers of ``SentenceTransformer.encode`` spell their calls.

Libraries that are handed an `Embedder` in place of a `SentenceTransformer` pass keywords that
change nothing here, and name the texts as sentence-transformers has named them over the years.
Values that cannot be honored are refused, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from embedrt.text.inputs import Texts


class Spellings(TypedDict, total=False):
    """Keywords that `Embedder.encode` takes and that change nothing."""

    sentences: Texts
    """The texts, as sentence-transformers called them until version 6."""
    inputs: Texts
    """The texts, as it calls them now."""
    convert_to_numpy: bool
    convert_to_tensor: bool
    device: str | None
    output_value: str
    pool: None
    chunk_size: int | None


OMITTED: Any = object()
TEXTS: Final = ("sentences", "inputs")
# What is accepted, and what to do where something else is wanted.
ACCEPTED: dict[str, tuple[tuple[object, ...], str]] = {
    "convert_to_numpy": ((True, None), "the result is a numpy array; wrap it in list() for a list"),
    "convert_to_tensor": (
        (False, None),
        "the result is a numpy array; torch.from_numpy(...) makes a tensor of it",
    ),
    "device": ((None, "cpu"), "it runs on the CPU; choose its cores with Embedder.load(threads=)"),
    "output_value": (
        ("sentence_embedding",),
        "a bundle gives one vector a text; use sentence-transformers for token embeddings",
    ),
    "pool": ((None,), "all cores are used already; leave it out"),
}


def read_spellings(texts: Texts, options: Mapping[str, Any]) -> Texts:
    """Return the texts, however they were named; `texts` is OMITTED where they were.

    Raises TypeError for a keyword that `encode` does not have and for texts that are given twice or
    not at all, ValueError for a value that cannot be honored.
    """
    for name, value in options.items():
        if name in ACCEPTED:
            accepted, instead = ACCEPTED[name]
            if not any(value is each or value == each for each in accepted):
                raise ValueError(f"{name}={value!r} cannot be honored: {instead}")
        elif name not in Spellings.__annotations__:
            raise TypeError(f"encode() got an unexpected keyword argument '{name}'")
    given: list[Texts] = [options[name] for name in TEXTS if name in options]
    if texts is not OMITTED:
        given.append(texts)
    if len(given) != 1:
        found = "twice" if given else "nowhere"
        raise TypeError(f"the texts are given {found}; pass them as the first argument alone")
    return given[0]
