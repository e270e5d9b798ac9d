"""Compares the token ids that a bundle and the original model run for a text."""

from __future__ import annotations

from itertools import zip_longest

from embedrt import Embedder
from embedrt.text.prompts import Prompts
from embedrt.text.tokenizer import TokenIds
from embedrt_export.proof.calls import Call
from embedrt_export.proof.reference import Reference


def token_difference(call: Call, text: str, embedder: Embedder, oracle: Reference) -> str:
    """Describe the first token that differs; an empty string if there is none."""
    ours = _token_ids(embedder, call, text)
    theirs = oracle.input_ids(text, call)
    for position, (a, b) in enumerate(zip_longest(ours.tolist(), theirs.tolist())):
        if a != b:
            return (
                f"token {position} is {_name(a, oracle)} in the bundle and "
                f"{_name(b, oracle)} in the original"
            )
    return ""


def _token_ids(embedder: Embedder, call: Call, text: str) -> TokenIds:
    prompts = Prompts.of(embedder.manifest)
    name = call.prompt_name
    if call.prompt is None and name is None:
        own = {"encode_query": prompts.query, "encode_document": prompts.document}
        name = own.get(call.method)
    return embedder.tokenize(prompts.choose(name, call.prompt) + text)[0]


def _name(token_id: int | None, oracle: Reference) -> str:
    if token_id is None:
        return "missing"
    return f"{token_id} ({oracle.token(token_id)!r})"
