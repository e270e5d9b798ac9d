"""TEI's ``/tokenize`` and ``/decode``: text to tokens and back, without the model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from embedrt.errors import TextError
from embedrt.serve.dialects.tei import DIALECT
from embedrt.serve.errors import RequestError
from embedrt.serve.fields import Texts, describe, flag, texts_of
from embedrt.serve.operation import Operation
from embedrt.serve.service import Service
from embedrt.serve.wire import Incoming, Reply, json_reply
from embedrt.text.inputs import well_formed
from embedrt.text.tokenizer import Piece

# Tokens take 350 bytes of memory a character, and 60 bytes of the answer. TEI has the same limit.
CHARACTERS_PER_TOKEN = 250
MOST_CHARACTERS = 8_000_000  # at hundreds of bytes each, for models that take texts of any length


async def tokenize(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /tokenize``: the tokens of each text, before truncation."""
    fields = incoming.fields
    texts = texts_of(fields.get("inputs"), "inputs", service.options.max_texts)
    special = flag(fields, "add_special_tokens", default=True)
    prompt = service.prompts.choose(service.prompt_name(fields))
    most = min(MOST_CHARACTERS, CHARACTERS_PER_TOKEN * service.manifest.max_tokens)
    characters = sum(len(prompt) + len(text) for text in texts.values)
    if characters > most:
        raise RequestError(
            "invalid",
            f"inputs has {characters:,} characters with the prompt; send at most {most:,} at once",
            field="inputs",
        )
    async with service.tokenizing:
        pieces = await asyncio.to_thread(_pieces, service, texts, prompt, special)
    return json_reply([[_token(piece) for piece in of_one] for of_one in pieces])


async def decode(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /decode``: the text of each list of ids."""
    ids = incoming.fields.get("ids")
    skip = flag(incoming.fields, "skip_special_tokens", default=True)
    several = isinstance(ids, list) and bool(ids) and isinstance(ids[0], list)
    named = [(f"ids[{at}]", row) for at, row in enumerate(ids)] if several else [("ids", ids)]  # type: ignore[arg-type]
    rows = {name: _ids_of(row, name) for name, row in named}
    async with service.tokenizing:
        return json_reply(await asyncio.to_thread(_texts, service, rows, skip))


def _pieces(service: Service, texts: Texts, prompt: str, special: bool) -> list[list[Piece]]:
    try:
        return [
            service.loaded.tokenizer.pieces(well_formed(prompt + text), index, special=special)
            for index, text in enumerate(texts.values)
        ]
    except TextError as error:
        place = texts.place(error.index)
        raise RequestError("tokenizer", f"{place} {error.complaint}", field=place) from None


def _token(piece: Piece) -> dict[str, Any]:
    start, stop = piece.span or (None, None)
    return {
        "id": piece.id,
        "text": piece.text,
        "special": piece.special,
        "start": start,
        "stop": stop,
    }


def _ids_of(row: object, name: str) -> list[int]:
    if not isinstance(row, list) or not row:
        shown = "an empty list" if row == [] else describe(row)
        raise RequestError(
            "invalid", f"{name} is {shown}; expected token ids, or lists of them", field=name
        )
    for index, value in enumerate(row):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
            raise RequestError(
                "invalid",
                f"{name}[{index}] is not a token id of this model",
                field=f"{name}[{index}]",
            )
    return row


def _texts(service: Service, rows: Mapping[str, Sequence[int]], skip: bool) -> list[str]:
    texts = []
    for name, row in rows.items():
        try:
            texts.append(service.loaded.tokenizer.decode(row, skip_special=skip))
        except ValueError as error:
            raise RequestError("invalid", f"{name}{error}", field=name) from None
    return texts


OPERATIONS = [
    Operation(path="/tokenize", method="POST", answer=tokenize, dialect=DIALECT),
    Operation(path="/decode", method="POST", answer=decode, dialect=DIALECT),
]
