"""Compatibility with calls of ``SentenceTransformer.encode`` and ``CrossEncoder.predict``.

Libraries that use an `Embedder` in place of a `SentenceTransformer`, or a `Reranker` in place of a
`CrossEncoder`, pass keywords that have no effect here, and use the name of the texts in their
version of sentence-transformers. Unsupported values raise an error that says what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from embedrt.text.inputs import Pairs, Texts


class Spellings(TypedDict, total=False):
    """Keywords that `Embedder.encode` accepts for compatibility. None of them changes a result."""

    sentences: Texts
    """The name of the texts in sentence-transformers before version 6."""
    inputs: Texts
    """The name of the texts in sentence-transformers 6."""
    convert_to_numpy: bool
    convert_to_tensor: bool
    device: str | None
    output_value: str
    pool: None
    chunk_size: int | None


class SparseSpellings(TypedDict, total=False):
    """The same for `SparseEncoder.encode`."""

    sentences: Texts
    inputs: Texts
    convert_to_tensor: bool
    convert_to_sparse_tensor: bool
    save_to_cpu: bool
    device: str | None
    pool: None
    chunk_size: int | None


class TokenSpellings(TypedDict, total=False):
    """The same for `MultiVectorEncoder.encode`."""

    inputs: Texts
    convert_to_numpy: bool
    device: str | None
    output_value: str
    pool: None
    chunk_size: int | None
    token_pooling: None


class PairSpellings(TypedDict, total=False):
    """Keywords that `Reranker.predict` accepts for compatibility. None of them changes a result."""

    sentences: Pairs
    """The name of the pairs in sentence-transformers before version 5.4."""
    inputs: Pairs
    """The name of the pairs since then."""
    activation_fct: object
    """The name of `activation_fn` before version 4."""
    convert_to_numpy: bool
    convert_to_tensor: bool
    device: str | None
    num_workers: int
    pool: None
    chunk_size: int | None


OMITTED: Any = object()
"""The default of the texts, which may also be passed by a keyword: see `read_spellings`."""
TEXTS: Final = ("sentences", "inputs")
Accepted = Mapping[str, tuple[tuple[object, ...], str]]
"""The accepted values of each keyword, and the advice in the error for any other value."""

ACCEPTED: Accepted = {
    "convert_to_numpy": ((True, None), "the result is a numpy array; wrap it in list() for a list"),
    "convert_to_tensor": (
        (False, None),
        "the result is a numpy array; torch.from_numpy(...) makes a tensor of it",
    ),
    "device": ((None, "cpu"), "it runs on the CPU; choose its cores with load(threads=)"),
    "output_value": (
        ("sentence_embedding",),
        "a bundle gives one vector per text; use sentence-transformers for token embeddings",
    ),
    "pool": ((None,), "all cores are used already; leave it out"),
}


SPARSE_ACCEPTED: Accepted = {
    "convert_to_tensor": (
        (False, None),
        "the result is CSR parts; torch.from_numpy(rows.to_dense()) makes a tensor of them",
    ),
    "convert_to_sparse_tensor": ((True, None), "the result is sparse; to_dense() makes an array"),
    "device": ACCEPTED["device"],
    "pool": ACCEPTED["pool"],
}


TOKEN_ACCEPTED: Accepted = {
    "convert_to_numpy": ((True, False), "the result is a list of numpy arrays"),
    "device": ACCEPTED["device"],
    "output_value": (("token_embeddings",), "a bundle gives the vectors of tokens only"),
    "pool": ACCEPTED["pool"],
    "token_pooling": ((None,), "a bundle gives one vector per token"),
}


def read_spellings(
    texts: Any,
    options: Mapping[str, Any],
    method: str = "encode",
    known: type = Spellings,
    restricted: Accepted = ACCEPTED,
) -> Any:
    """Return the texts, from the positional argument or from a keyword.

    `known` declares the keywords of the method, and `restricted` the accepted values of some of
    them. `texts` is OMITTED if the positional argument is absent. Raises TypeError for an unknown
    keyword and for texts that are passed twice or not at all, ValueError for an unsupported value.
    """
    if not options and texts is not OMITTED:
        return texts
    for name, value in options.items():
        if name not in known.__annotations__:
            raise TypeError(f"{method}() got an unexpected keyword argument '{name}'")
        if name in restricted:
            accepted, instead = restricted[name]
            # A torch.device has the name of a device as its str.
            named = str(value) if name == "device" and type(value).__name__ == "device" else value
            if not any(named is each or named == each for each in accepted):
                raise ValueError(f"{name}={value!r} cannot be honored: {instead}")
    given = [options[name] for name in TEXTS if name in options]
    if texts is not OMITTED:
        given.append(texts)
    if len(given) != 1:
        found = "passed twice" if given else "missing"
        raise TypeError(f"the texts are {found}; pass them as the first argument only")
    return given[0]
