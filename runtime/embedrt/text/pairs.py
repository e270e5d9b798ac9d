"""Tokenization of pairs: two texts in one sequence, truncated at the longer one.

The rule is that of the library ("longest first"): of two texts that do not fit, the longer one
loses tokens until both are equally long, and then both do. The longer one keeps a token more if the
number of tokens is odd.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Encoding

from embedrt.errors import BundleFormatError
from embedrt.text.inputs import Pair
from embedrt.text.tokenizer import (
    BLOCK,
    TokenIds,
    Tokenizer,
    is_tokenizer_error,
    tokenization_errors,
)


class PairTokenizer:
    """Tokenizes pairs with a bundle's tokenizer. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, *, typed: bool) -> None:
        """Tokenize with token types if `typed`, which differ between the texts of a pair."""
        self._tokenizer = tokenizer
        self._typed = typed
        special = tokenizer.special_tokens(pair=True)
        if tokenizer.max_tokens < special:
            raise BundleFormatError(
                f"max_tokens is {tokenizer.max_tokens}, and {special} special tokens are added to "
                "each pair; export the model again"
            )
        self._room = tokenizer.max_tokens - special

    def batch_ids(self, pairs: Sequence[Pair]) -> list[TokenIds]:
        """Return the token ids of each pair, or the ids and the token types.

        Shape: (tokens,) each, or (2, tokens). Raises TokenizationError with the index in `pairs` of
        the first one that the tokenizer fails on.
        """
        ids: list[TokenIds] = []
        for start in range(0, len(pairs), BLOCK):
            block = pairs[start : start + BLOCK]
            try:
                encodings = self._tokenizer.encode_pairs([self._cut(pair) for pair in block])
            except BaseException as error:
                if not is_tokenizer_error(error):
                    raise
                encodings = [self._encode(pair, index) for index, pair in enumerate(block, start)]
            ids += map(self._ids_of, encodings)
        return ids

    def other_side(self) -> PairTokenizer:
        """Return the same tokenizer, which truncates on the other side."""
        return PairTokenizer(self._tokenizer.other_side(), typed=self._typed)

    def _encode(self, pair: Pair, index: int) -> Encoding:
        with tokenization_errors(pair, index):
            return self._tokenizer.encode_pairs([self._cut(pair)])[0]

    def _ids_of(self, encoding: Encoding) -> TokenIds:
        ids = [encoding.ids, encoding.type_ids] if self._typed else encoding.ids
        return np.array(ids, np.int64)

    def _cut(self, pair: Pair) -> Pair:
        """Return as much of two texts as determines the tokens that they keep."""
        tokenizer = self._tokenizer
        if all(map(tokenizer.is_short, pair)):
            return tokenizer.readable(pair[0]), tokenizer.readable(pair[1])
        (first, more), (second, too) = map(tokenizer.cut, pair)
        if more and too and self._room % 2:
            # The longer one keeps a token more, and only their ends tell which one is longer.
            return tokenizer.readable(pair[0]), tokenizer.readable(pair[1])
        return first, second
