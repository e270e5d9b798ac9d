"""Texts to token ids.

The tokenizer is configured once, at load, and never again: changing truncation or padding per call
while another thread encodes is the "Already borrowed" crash of other libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, models
from tokenizers import Tokenizer as FastTokenizer

from embedrt.errors import BundleCorruptError, BundleFormatError
from embedrt.manifest import Side

TokenIds = NDArray[np.int64]

# A text is cut before it is tokenized only where that cannot change its tokens: the last token
# kept must end this far before the cut. WordPiece gives up on words of more than 100 characters,
# and BPE merges from the left. Unigram weighs a word as a whole, so for it the word must end too.
CUT_MARGIN = 1024
CHARACTERS_PER_TOKEN = 8
CUT_GROWTH = 4


class Tokenizer:
    """A bundle's tokenizer, truncating to `max_tokens`. Safe to use from many threads."""

    def __init__(self, path: Path, *, max_tokens: int, truncation_side: Side = "right") -> None:
        self.max_tokens = max_tokens
        self._path = path
        self._cuts_end = truncation_side == "right"
        self._truncating = _load(path)
        special = self._truncating.num_special_tokens_to_add(is_pair=False)
        if max_tokens < max(1, special):
            raise BundleFormatError(
                f"{path}: max_tokens is {max_tokens}, and {special} special tokens are added to "
                "each text; export the model again"
            )
        self._truncating.enable_truncation(max_tokens, direction=truncation_side)
        self._weighs_words = isinstance(self._truncating.model, models.Unigram)
        self._whole: FastTokenizer | None = None

    def ids(self, text: str) -> TokenIds:
        """Token ids of one text. Shape: (tokens,), 1 <= tokens <= max_tokens."""
        return self.batch_ids([text])[0]

    def batch_ids(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text; a text of no tokens at all gets no ids."""
        first_cut = self.max_tokens * CHARACTERS_PER_TOKEN + CUT_MARGIN
        if self._cuts_end and any(len(text) > first_cut for text in texts):
            encodings = [
                self._encode_long(text, first_cut)
                if len(text) > first_cut
                else self._truncating.encode(text)
                for text in texts
            ]
        else:
            encodings = self._truncating.encode_batch_fast(list(texts))
        return [np.array(encoding.ids, np.int64) for encoding in encodings]

    def count(self, text: str) -> int:
        """Tokens of the whole text, special tokens included, before any truncation."""
        if self._whole is None:
            # A second tokenizer, made for the few who count: the first must not be reconfigured.
            self._whole = _load(self._path)
        return len(self._whole.encode_batch_fast([text])[0].ids)

    def _encode_long(self, text: str, cut: int) -> Encoding:
        """Tokenize only as much of a long text as decides its first `max_tokens` tokens.

        Tokenizing 10 MB to keep 256 tokens takes half a minute and gigabytes.
        """
        while cut < len(text):
            encoding = self._truncating.encode(text[:cut])
            end = max((stop for _, stop in encoding.offsets), default=0)
            if encoding.overflowing and end <= cut - CUT_MARGIN:
                beyond = encoding.overflowing[-1]
                if not self._weighs_words or _last_word(beyond) > _last_word(encoding):
                    return encoding
            cut *= CUT_GROWTH
        return self._truncating.encode(text)


def _last_word(encoding: Encoding) -> int:
    return max((word for word in encoding.word_ids if word is not None), default=-1)


def _load(path: Path) -> FastTokenizer:
    try:
        tokenizer = FastTokenizer.from_file(str(path))
    except BaseException as error:  # the Rust side panics outside Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise BundleCorruptError(
            f"{path} is no tokenizer that this version of tokenizers reads ({error}); "
            "copy or export the bundle again"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
