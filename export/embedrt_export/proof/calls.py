"""The method calls for which the bundle and the original are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from embedrt_export.encoder import FloatArray

# Some tokenizers drop the trailing space, others merge it with the next word.
OWN_PROMPT = "query: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A method that `Embedder` and `SentenceTransformer` share, with its prompt arguments."""

    method: Literal["encode", "encode_query", "encode_document"] = "encode"
    prompt: str | None = None
    prompt_name: str | None = None

    def of(self, model: Any, texts: str | Sequence[str]) -> FloatArray:
        """Call the method on `model`. Shape: (dimension,) for one str, else (n, dimension)."""
        embedding: FloatArray = getattr(model, self.method)(texts, **self._options())
        return embedding

    def __str__(self) -> str:
        return f"{self.method}({', '.join(f'{k}={v!r}' for k, v in self._options().items())})"

    def _options(self) -> dict[str, str]:
        options = asdict(self)
        del options["method"]
        return {name: value for name, value in options.items() if value is not None}


PLAIN = Call(prompt="")
QUERIES = Call(method="encode_query", prompt="")
DOCUMENTS = Call(method="encode_document", prompt="")


def prompted_calls(prompt_names: Sequence[str], special_tokens: Sequence[str]) -> list[Call]:
    """Return the calls that add a prompt: each method, each prompt name, and two given prompts.

    One of the given prompts ends in a space, the other in a special token.
    """
    return [
        Call(method="encode_document", prompt=OWN_PROMPT),
        Call(method="encode_query", prompt=OWN_PROMPT + "".join(special_tokens[-1:])),
        Call(),
        Call(method="encode_query"),
        Call(method="encode_document"),
        *(Call(prompt_name=name) for name in prompt_names),
    ]
