"""The reference for rerankers: the original cross-encoder in sentence-transformers, in float64.

A score is a sum in which large terms cancel. In float32, the original's own rounding would be as
large as the tolerance.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedrt.pair import Pair
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import FloatArray, TokenTypes
from embedrt_export.proof.original import Original
from embedrt_export.quiet import quiet
from embedrt_export.source.loading import load_cross_encoder

TYPED_PAIRS = (("a", "b"), ("a river", "a bridge " * 3), ("", "b"))  # for determining token types


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCall:
    """A call of `predict`, which `Reranker` and `CrossEncoder` share, with its prompt arguments."""

    prompt: str | None = None
    prompt_name: str | None = None
    raw: bool = True
    """Without the activation."""

    @property
    def options(self) -> dict[str, Any]:
        """The prompt arguments that are given."""
        given = {"prompt": self.prompt, "prompt_name": self.prompt_name}
        return {name: value for name, value in given.items() if value is not None}

    def __str__(self) -> str:
        activation = {"activation_fn": "Identity"} if self.raw else {}
        options = {**self.options, **activation}
        return f"predict({', '.join(f'{name}={value!r}' for name, value in options.items())})"


RAW = PairCall(prompt="")


class PairOracle(Original):
    """The original cross-encoder."""

    _empty = ("", "")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, load_cross_encoder, lambda model: model.predict([["a", "b"]]))
        self._model.double()
        self._types = self._find_types()

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the scores."""
        names: dict[int, str] = self._model.config.id2label
        return tuple(str(names[index]) for index in range(int(self._model.num_labels)))

    def token_types(self) -> TokenTypes:
        """Return whether the token types of a pair are an input of the graph."""
        return self._types

    def _find_types(self) -> TokenTypes:
        encoder: Any = self._model.transformers_model
        known = "token_type_ids" in inspect.signature(encoder.forward).parameters
        if not known or not getattr(encoder.config, "type_vocab_size", 1):  # DeBERTa has 0
            return TokenTypes()
        features = [self._features(pair) for pair in TYPED_PAIRS]
        rows = [row["token_type_ids"][0].tolist() for row in features if "token_type_ids" in row]
        return TokenTypes(given=any(map(any, rows)))

    def inputs(self, pair: Pair) -> TokenIds:
        """Return the input of the graph for a pair. Shape: (tokens,), or (2, tokens) with types."""
        features = self._features(pair)
        ids = np.array(features["input_ids"][0].tolist(), np.int64)
        if not self._types.given:
            return ids
        return np.stack([ids, np.array(features["token_type_ids"][0].tolist(), np.int64)])

    def score(self, pairs: Sequence[Pair], call: PairCall = RAW) -> FloatArray:
        """Score each pair with `call`, by default raw. Shape: (n, labels)."""
        return self.results.of(pairs, call)

    def _run(self, pair: Pair, call: PairCall) -> FloatArray:
        activation = torch.nn.Identity() if call.raw else None
        with quiet():
            score = self._model.predict([list(pair)], activation_fn=activation, **call.options)
        return np.asarray(score, np.float32).reshape(-1)

    def activate(self, scores: FloatArray) -> FloatArray:
        """Apply the model's activation to raw scores. Shape: (n, labels)."""
        with quiet():
            activated: FloatArray = self._model.activation_fn(torch.from_numpy(scores)).numpy()
        return activated

    def input_ids(self, pair: Pair, call: PairCall = RAW) -> TokenIds:
        """Return the token ids that the encoder receives in this call. Shape: (tokens,)."""
        return self._ids_of_run(lambda: self._model.predict([list(pair)], **call.options))
