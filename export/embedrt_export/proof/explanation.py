"""Describes the texts on which a bundle differs from the original: by token ids or by numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from embedrt import Embedder
from embedrt.text.inputs import start_of
from embedrt.text.prompts import Prompts
from embedrt.text.tokenizer import TokenIds
from embedrt_export.proof.calls import Call
from embedrt_export.proof.comparison import Comparison
from embedrt_export.proof.oracle import Oracle

NAMED = 3  # the texts that differ most


def explain(comparisons: Sequence[Comparison], embedder: Embedder, oracle: Oracle) -> list[str]:
    """Describe the texts that differ most; an empty list if all agree."""
    precision = embedder.manifest.precision
    apart = [one for one in comparisons if not one.agrees(precision)]
    # NaN sorts before any number.
    apart.sort(key=lambda one: -np.nan_to_num(one.difference, nan=np.inf))
    unsteady = [one for one in comparisons if not one.same_bytes]
    lines = [
        f"{one.call} on {start_of(one.text)} differs by {one.difference:.1e}"
        f"{_what_differs(one, embedder, oracle)}"
        for one in apart[:NAMED]
    ]
    lines += [
        f"{one.call} on {start_of(one.text)} gives different bytes in a batch"
        for one in unsteady[:NAMED]
    ]
    if len(apart) > NAMED:
        lines.append(f"{len(apart) - NAMED} more texts differ")
    return lines


def _what_differs(one: Comparison, embedder: Embedder, oracle: Oracle) -> str:
    ours = _token_ids(embedder, one.call, one.text)
    theirs = oracle.input_ids(one.text, one.call)
    for position, (a, b) in enumerate(zip_longest(ours.tolist(), theirs.tolist())):
        if a != b:
            return (
                f": token {position} is {_name(a, oracle)} in the bundle and "
                f"{_name(b, oracle)} in the original"
            )
    at = int(np.argmax(np.abs(one.found - one.expected)))  # NaN counts as the largest
    return (
        f" with the same {len(ours)} token ids: component {at} is "
        f"{one.found[at]:.7g} in the bundle and {one.expected[at]:.7g} in the original"
    )


def _token_ids(embedder: Embedder, call: Call, text: str) -> TokenIds:
    prompts = Prompts.of(embedder.manifest)
    name = call.prompt_name
    if call.prompt is None and name is None:
        own = {"encode_query": prompts.query, "encode_document": prompts.document}
        name = own.get(call.method)
    return embedder.tokenize(prompts.choose(name, call.prompt) + text)[0]


def _name(token_id: int | None, oracle: Oracle) -> str:
    if token_id is None:
        return "missing"
    return f"{token_id} ({oracle.token(token_id)!r})"
