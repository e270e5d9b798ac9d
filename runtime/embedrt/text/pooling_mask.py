"""Tokenization for a graph that leaves the tokens of the prompt out of its pooling.

As in sentence-transformers, the number of tokens left out at the start of a text is that of the
prompt alone, without the special token at its end. These need not be the prompt's own tokens: the
end of the prompt and the start of the text can merge, and the text can be truncated on the left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property

import numpy as np

from embedrt.text.tokenizer import TokenIds


class ToPooled:
    """Tokenizes texts that start with a prompt to token ids and the mask of pooled tokens.

    `tokenize` returns the ids, and `endings` are the tokens that do not count at the end of a
    prompt.
    """

    def __init__(
        self,
        tokenize: Callable[[Sequence[str]], list[TokenIds]],
        prompt: str,
        endings: Collection[int],
    ) -> None:
        self._tokenize = tokenize
        self._prompt = prompt
        self._endings = endings

    def __call__(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return ids and mask of each text. Shape: (2, tokens) each."""
        left_out = self._prompt_tokens
        return [np.stack([ids, np.arange(len(ids)) >= left_out]) for ids in self._tokenize(texts)]

    @cached_property
    def _prompt_tokens(self) -> int:
        if not self._prompt:
            return 0
        (ids,) = self._tokenize([self._prompt])
        return len(ids) - bool(len(ids) and int(ids[-1]) in self._endings)
