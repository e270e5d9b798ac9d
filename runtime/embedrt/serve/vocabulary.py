"""Converts token ids of OpenAI's models back to text, with a file in tiktoken's format.

Clients that split texts by OpenAI's tokenizer send ids in place of text. The ids decode without
loss, and the model's own tokenizer reads the text.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

from embedrt.serve.errors import RequestError


class Vocabulary:
    """The bytes of each token id."""

    def __init__(self, path: Path) -> None:
        self._bytes: dict[int, bytes] = {}
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            token, _, rank = line.partition(b" ")
            try:
                self._bytes[int(rank)] = base64.b64decode(token, validate=True)
            except (ValueError, binascii.Error):
                raise ValueError(
                    f"{path}, line {number} is not a token and its rank; pass a .tiktoken file"
                ) from None

    def texts_of(self, value: Any, name: str) -> str | list[str]:
        """Return the text of a list of ids, or of each list of a list of them."""
        if isinstance(value[0], list):
            return [self._text(ids, f"{name}[{row}]") for row, ids in enumerate(value)]
        return self._text(value, name)

    def _text(self, ids: object, place: str) -> str:
        if not isinstance(ids, list):
            raise RequestError("invalid", f"{place} is not a list of token ids", field=place)
        parts = []
        for index, number in enumerate(ids):
            part = self._bytes.get(number) if type(number) is int else None
            if part is None:
                where = f"{place}[{index}]"
                message = f"{where} is not a token id of the server's --tiktoken file"
                raise RequestError("invalid", message, field=where)
            parts.append(part)
        return b"".join(parts).decode(errors="replace")
