"""Compares the token ids that a bundle and the original model run for a text."""

from __future__ import annotations

from itertools import zip_longest

from embedrt import Embedder
from embedrt.bundle.manifest import Manifest
from embedrt.text.prompts import Prompts
from embedrt.text.tokenizer import TokenIds
from embedrt_export.proof.calls import Call
from embedrt_export.proof.original import Original
from embedrt_export.proof.reference import Reference


def token_difference(call: Call, text: str, embedder: Embedder, oracle: Reference) -> str:
    """Describe the first token that differs; an empty string if there is none."""
    (ours,) = embedder.tokenize(prompt_of(call, embedder.manifest) + text)
    return first_difference(ours, oracle.input_ids(text, call), oracle)


def first_difference(ours: TokenIds, theirs: TokenIds, oracle: Reference | Original) -> str:
    """Describe the first of two rows' tokens that differs; an empty string if there is none."""
    for position, (a, b) in enumerate(zip_longest(ours.tolist(), theirs.tolist())):
        if a != b:
            return (
                f"token {position} is {_name(a, oracle)} in the bundle and "
                f"{_name(b, oracle)} in the original"
            )
    return ""


def prompt_of(call: Call, manifest: Manifest) -> str:
    """Return the prompt that a bundle adds in this call."""
    prompts = Prompts.of(manifest)
    name = call.prompt_name
    if call.prompt is None and name is None:
        own = {"encode_query": prompts.query, "encode_document": prompts.document}
        name = own.get(call.method)
    return prompts.choose(name, call.prompt)


def _name(token_id: int | None, oracle: Reference | Original) -> str:
    if token_id is None:
        return "missing"
    return f"{token_id} ({oracle.token(token_id)!r})"
