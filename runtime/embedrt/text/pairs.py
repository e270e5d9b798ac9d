"""Tokenization of pairs: two texts in one sequence, with special tokens around them.

Each text is tokenized separately, as the tokenizer does with pairs too, and only once if it occurs
in many pairs. Truncation follows the library ("longest first"): if two texts do not fit, the longer
one loses tokens until both are equally long, and then both do. The library's own truncation would
also return the overflow: pairs of all remaining pieces, of which there can be millions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from embedrt.errors import BundleFormatError
from embedrt.pair import Pair
from embedrt.text.tokenizer import (
    BLOCK,
    TokenIds,
    Tokenizer,
    is_tokenizer_error,
    tokenization_errors,
)


@dataclass(frozen=True, slots=True)
class Template:
    """The special tokens around the texts of a pair, and the types of all tokens.

    The shape of each part is (2, tokens): ids and types.
    """

    before: TokenIds
    between: TokenIds
    after: TokenIds
    types: tuple[int, int]
    """The types of the tokens of each text."""

    @classmethod
    def of(cls, encoding: Encoding) -> Template:
        """Read the template from an encoded pair of texts that both have a token.

        Raises ValueError if the texts are not in order and each in one piece.
        """
        places = encoding.sequence_ids
        rows = np.array([encoding.ids, encoding.type_ids], np.int64)
        starts = [places.index(number) for number in (0, 1)]
        ends = [start + places.count(number) for number, start in enumerate(starts)]
        template = cls(
            before=rows[:, : starts[0]],
            between=rows[:, ends[0] : starts[1]],
            after=rows[:, ends[1] :],
            types=(int(rows[1, starts[0]]), int(rows[1, starts[1]])),
        )
        texts = (rows[0, start:end] for start, end in zip(starts, ends, strict=True))
        if not np.array_equal(template.fill(*texts), rows):
            raise ValueError("the texts of a pair are not each in one piece")
        return template

    def fill(self, first: TokenIds, second: TokenIds) -> TokenIds:
        """Return the ids and types of a pair, given the ids of its texts. Shape: (2, tokens)."""
        texts = (
            np.stack([ids, np.full_like(ids, number)])
            for ids, number in zip((first, second), self.types, strict=True)
        )
        one, other = texts
        return np.concatenate([self.before, one, self.between, other, self.after], axis=1)


@dataclass(frozen=True, slots=True)
class _Part:
    """A tokenized text, up to the maximum of tokens."""

    ids: TokenIds
    is_cut: bool


class PairTokenizer:
    """Tokenizes pairs with a bundle's tokenizer. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, *, typed: bool) -> None:
        """Return token types too if `typed`; the texts of a pair differ in them."""
        self._tokenizer = tokenizer
        self._typed = typed
        special, most = tokenizer.special_tokens(pair=True), tokenizer.max_tokens
        self._room = most - special
        if self._room < 2:
            raise BundleFormatError(
                f"max_tokens is {most}, and {special} special tokens are added to each pair; "
                "export the model again"
            )
        text = tokenizer.some_text()
        try:
            self._template = Template.of(tokenizer.encode_pair(text, text))
        except ValueError as error:
            raise BundleFormatError(
                f"the tokenizer does not write two texts in order ({error}); export the model again"
            ) from error

    def batch_ids(self, pairs: Sequence[Pair]) -> list[TokenIds]:
        """Return the token ids of each pair, or the ids and the token types.

        Shape: (tokens,) each, or (2, tokens). Raises TokenizationError with the index in `pairs` of
        the first one that the tokenizer fails on.
        """
        ids: list[TokenIds] = []
        for start in range(0, len(pairs), BLOCK):
            block = pairs[start : start + BLOCK]
            try:
                ids += self._block_ids(block)
            except BaseException as error:
                if not is_tokenizer_error(error):
                    raise
                for index, pair in enumerate(block, start):  # to find the one that fails
                    with tokenization_errors(pair, index):
                        ids += self._block_ids([pair])
        return ids

    def other_side(self) -> PairTokenizer:
        """Return the same tokenizer, which truncates on the other side."""
        return PairTokenizer(self._tokenizer.other_side(), typed=self._typed)

    def _block_ids(self, pairs: Sequence[Pair]) -> list[TokenIds]:
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        encodings = self._tokenizer.encode(texts, special=False)
        parts = {
            text: _Part(np.array(encoding.ids, np.int64), bool(encoding.overflowing))
            for text, encoding in zip(texts, encodings, strict=True)
        }
        length = cache(self._tokenizer.length)
        ids = []
        for pair in pairs:
            first, second = (parts[text] for text in pair)
            lengths = (len(first.ids) + first.is_cut, len(second.ids) + second.is_cut)
            if first.is_cut and second.is_cut and self._room % 2:
                lengths = (length(pair[0]), length(pair[1]))  # the longer one keeps one more token
            kept = longest_first(*lengths, self._room)
            filled = self._template.fill(
                self._keep(first.ids, kept[0]), self._keep(second.ids, kept[1])
            )
            ids.append(filled if self._typed else filled[0])
        return ids

    def _keep(self, ids: TokenIds, count: int) -> NDArray[np.int64]:
        right = self._tokenizer.truncation_side == "right"
        return ids[:count] if right else ids[len(ids) - count :]


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens two texts of these lengths keep in `room` tokens."""
    if first + second <= room:
        return first, second
    shorter = min(first, second)
    longer = room - shorter
    if longer < shorter:
        shorter, longer = room // 2, room - room // 2
    return (longer, shorter) if first > second else (shorter, longer)
