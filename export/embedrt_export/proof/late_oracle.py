"""The reference for late interaction: the original in sentence-transformers, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from embedrt.bundle.late_interaction import Expansion, LateInteraction
from embedrt.errors import UnsupportedModelError
from embedrt.pair import TextKind
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import FloatArray, TokenTypes
from embedrt_export.proof.calls import DOCUMENTS, QUERIES, Call
from embedrt_export.proof.oracle import Oracle
from embedrt_export.quiet import quiet
from embedrt_export.source.loading import load_multi_vector_encoder
from embedrt_export.source.settings import Settings


class LateOracle(Oracle):
    """The original late interaction model."""

    main_calls = (DOCUMENTS, QUERIES)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, load_multi_vector_encoder)

    def late(self, settings: Settings, max_tokens: int) -> LateInteraction:
        """Return the manifest's record of a late interaction model.

        `max_tokens` is the number of tokens that other texts are truncated to.
        """
        late = settings.late
        assert late is not None  # for the type checker
        queries, documents = self.lengths(max_tokens)
        expansion = late.expansion
        return LateInteraction(
            score=late.score,
            query_tokens=queries,
            document_tokens=documents,
            expansion=None
            if expansion is None
            else Expansion(
                length=expansion.length,
                token=self._added_token(expansion.token),
                attended=expansion.attended,
            ),
            skipped=self._ids_of(late.skipped),
            skipped_in=late.skipped_in,
        )

    def lengths(self, max_tokens: int) -> tuple[int, int]:
        """Return the numbers of tokens that queries and documents are truncated to."""
        transformer = self._transformer()
        expansion = transformer.query_expansion
        queries: int | None = transformer.query_length
        if expansion is not None:
            if expansion["strategy"] == "fixed":
                queries = expansion["length"]
            elif queries is not None:
                queries = max(queries, expansion["length"])
        return queries or max_tokens, transformer.document_length or max_tokens

    def token_types(self) -> TokenTypes:
        """Return the token types that the encoder receives.

        Raises UnsupportedModelError if they depend on more than a token's position.
        """
        types = super().token_types()
        if self._transformer().query_expansion is not None and types != TokenTypes():
            raise UnsupportedModelError(
                f"{self._folder} expands queries, and its tokenizer gives a text token types "
                "other than 0; embedrt does not support both"
            )
        return types

    def inputs(self, text: str, task: TextKind) -> TokenIds:
        """Return the graph's input for a text. Shape: (tokens,), or (2, tokens) with a mask."""
        with self._naming(text):
            features: dict[str, Any] = self._model.preprocess([text], task=task)
        ids, mask = (
            np.array(features[name][0].tolist(), np.int64)
            for name in ("input_ids", "attention_mask")
        )
        expansion = self._transformer().query_expansion
        return ids if expansion is None or expansion["attend"] else np.stack([ids, mask])

    def _run(self, text: str, call: Call) -> FloatArray:
        with quiet():
            vectors: Any = call.of(self._model, text)
        return np.asarray(vectors.numpy(), np.float32)

    def _added_token(self, token: str | None) -> int:
        """Return the id of the token that expands queries."""
        tokenizer = self._tokenizer
        if token is not None:
            return int(tokenizer.convert_tokens_to_ids(token))
        mask = tokenizer.mask_token_id
        return int(tokenizer.eos_token_id if mask is None else mask)

    def _ids_of(self, words: tuple[str, ...]) -> tuple[int, ...]:
        """Return the ids of words that are tokens, as `MultiVectorMask` does."""
        tokenizer = self._tokenizer
        numbers = {word: tokenizer.convert_tokens_to_ids(word) for word in words}
        unknown = tokenizer.unk_token_id
        return tuple(
            dict.fromkeys(
                int(number)
                for word, number in numbers.items()
                if number is not None and (number != unknown or word == tokenizer.unk_token)
            )
        )
