"""The reference for embeddings: the original model in sentence-transformers, in float32."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.errors import UnsupportedModelError
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import FloatArray, TokenTypes
from embedrt_export.proof.calls import PLAIN, Call
from embedrt_export.proof.original import Original
from embedrt_export.quiet import quiet
from embedrt_export.source.loading import load_original
from embedrt_export.source.prompts import lacks_document_prompt

TYPED_TEXTS = ("", "a", "a river and a bridge " * 3)  # for determining token types


class Oracle(Original):
    """The original model of embeddings."""

    main_calls: tuple[Call, ...] = (PLAIN,)
    """The calls in which all texts are compared."""

    def __init__(self, folder: Path, load: Callable[..., Any] = load_original) -> None:
        super().__init__(folder, load, lambda model: model.encode("a", prompt=""))
        self._pools_prompt = True
        if lacks_document_prompt(folder):
            # encode_document then uses "passage" or "corpus", as documented: see `Prompts`.
            self._model.prompts.pop("document", None)

    def token_types(self) -> TokenTypes:
        """Return the token types that the encoder receives.

        Raises UnsupportedModelError if they depend on more than a token's position.
        """
        encoder: Any = self._model.transformers_model
        if "token_type_ids" not in inspect.signature(encoder.forward).parameters:
            return TokenTypes()
        features = [self._features(text) for text in TYPED_TEXTS]
        rows = [row["token_type_ids"][0].tolist() for row in features if "token_type_ids" in row]
        types = types_of(rows)
        if types is None:
            raise UnsupportedModelError(
                f"{self._folder} has a tokenizer whose token types depend on a text's length; "
                "embedrt supports only those that depend on a token's position from the start"
            )
        return types

    def edge_texts(self) -> list[str]:
        """Return no texts: the limits of a transformer are its tokens."""
        return []

    def embed(self, texts: Sequence[str], call: Call = PLAIN) -> FloatArray:
        """Embed each text with `call`, by default without a prompt. Shape: (n, dimension)."""
        return self.results.of(texts, call)

    def takes(self, text: str, call: Call) -> bool:
        """Whether a text has tokens; sentence-transformers fails on one without.

        If all tokens belong to a prompt that is not pooled, max pooling gives no finite value.
        """
        if not self.token_ids(text).size:
            return False
        return self._pools_prompt or bool(np.isfinite(self.embed([text], call)).all())

    def leave_prompt_out(self) -> None:
        """Leave the prompt out of the pooling, regardless of the model's files."""
        self._model.set_pooling_include_prompt(include_prompt=False)
        self._pools_prompt = False

    def prompt_endings(self) -> tuple[int, ...]:
        """Return the tokens that do not count as part of a prompt at its end."""
        return tuple(sorted(map(int, self._tokenizer.all_special_ids)))

    def graph_inputs(self, text: str) -> TokenIds:
        """Return the input of the graph for a text without a prompt.

        Shape: (tokens,), or (2, tokens) with the mask of the tokens that are pooled.
        """
        ids = self.token_ids(text)
        return ids if self._pools_prompt else np.stack([ids, np.ones_like(ids)])

    def _run(self, text: str, call: Call) -> FloatArray:
        with quiet():
            return call.of(self._model, text)

    def input_ids(self, text: str, call: Call) -> TokenIds:
        """Return the token ids that the encoder receives in this call. Shape: (tokens,)."""
        return self._ids_of_run(lambda: call.of(self._model, text))


def types_of(rows: Sequence[Sequence[int]]) -> TokenTypes | None:
    """Return the token types by position that fit all rows; None if no such rule exists."""
    longest = max(rows, key=len, default=())
    if not longest:
        return TokenTypes()
    rest = longest[-1]
    first = next((end for end in range(len(longest), 0, -1) if longest[end - 1] != rest), 0)
    types = TokenTypes(first=tuple(longest[:first]), rest=rest)
    fits = all(types.of(len(row)).tolist() == list(row) for row in rows)
    return types if fits else None
