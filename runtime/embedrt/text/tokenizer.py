"""Texts to token ids.

The tokenizer is configured once, at load, and never again: changing truncation or padding per call
while another thread encodes is the "Already borrowed" crash of other libraries.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Read at every call. The library's own threads would be one for each core, however many we were
# told to use, and a forked child waits for them forever.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Encoding, models
from tokenizers import Tokenizer as FastTokenizer

from embedrt.bundle.manifest import Side
from embedrt.errors import BundleCorruptError, BundleFormatError, TokenizationError
from embedrt.text.inputs import start_of

TokenIds = NDArray[np.int64]

# A text is cut before it is tokenized only where that cannot change its tokens: the last token
# kept must end this far before the cut, and its word must end too. A word can end far behind its
# last token: normalizers drop characters. Only BPE does not weigh a word as a whole; it merges from
# the left, and as many tokens again as are kept must follow.
CUT_MARGIN = 1024
CHARACTERS_PER_TOKEN = 8
CUT_GROWTH = 4

# But no more of a text is ever looked at: one word of 10 MB takes half a minute and 3 GB.
MOST_CHARACTERS = 1_000_000

# Encodings take about a hundred times the memory of the ids that are taken from them.
BLOCK = 128


class Tokenizer:
    """A bundle's tokenizer, truncating to `max_tokens`. Safe to use from many threads."""

    def __init__(self, path: Path, *, max_tokens: int, truncation_side: Side = "right") -> None:
        self.max_tokens = max_tokens
        self._path = path
        self._cuts_end = truncation_side == "right"
        self._first_cut = max_tokens * CHARACTERS_PER_TOKEN + CUT_MARGIN
        self._truncating = _load(path)
        special = self._truncating.num_special_tokens_to_add(is_pair=False)
        if max_tokens < max(1, special):
            raise BundleFormatError(
                f"{path}: max_tokens is {max_tokens}, and {special} special tokens are added to "
                "each text; export the model again"
            )
        self._truncating.enable_truncation(max_tokens, direction=truncation_side)
        self._weighs_words = not isinstance(self._truncating.model, models.BPE)
        self._whole: FastTokenizer | None = None

    def ids(self, text: str, index: int | None = None) -> TokenIds:
        """Token ids of one text. Shape: (tokens,), 0 <= tokens <= max_tokens.

        Raises TokenizationError with this index.
        """
        with _naming(text, index):
            return self._ids(self._readable(text))

    def batch_ids(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text; a text of no tokens at all gets no ids.

        Raises TokenizationError with the place among `texts` of the first one that the tokenizer
        breaks on.
        """
        ids: list[TokenIds] = []
        for start in range(0, len(texts), BLOCK):
            block = texts[start : start + BLOCK]
            try:
                ids += self._block_ids([self._readable(text) for text in block])
            except BaseException as error:
                if not _is_the_tokenizers(error):
                    raise
                # Or none of them: where no thread can be started, any batch panics.
                ids += [self.ids(text, index) for index, text in enumerate(block, start)]
        return ids

    def count(self, text: str, index: int | None = None) -> int:
        """Tokens of the whole text, special tokens included, before any truncation.

        Takes up to 350 bytes for each character. Raises TokenizationError with this index.
        """
        if self._whole is None:
            # A second tokenizer, made for the few who count: the first must not be reconfigured.
            self._whole = _load(self._path)
        with _naming(text, index):
            return len(self._whole.encode_batch_fast([text])[0].ids)

    def _readable(self, text: str) -> str:
        return text[:MOST_CHARACTERS] if self._cuts_end else text[-MOST_CHARACTERS:]

    def _block_ids(self, texts: Sequence[str]) -> list[TokenIds]:
        cut = self._first_cut
        if max(map(len, texts)) <= cut:
            return [_ids_of(encoding) for encoding in self._truncating.encode_batch_fast(texts)]
        encodings = self._truncating.encode_batch([text[:cut] for text in texts])
        return [
            _ids_of(encoding)
            if len(text) <= cut or self._is_settled(encoding, cut)
            else self._ids(text)
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _ids(self, text: str) -> TokenIds:
        """Tokenize only as much of a long text as decides its first `max_tokens` tokens."""
        cut = self._first_cut
        while self._cuts_end and cut < len(text):
            encoding = self._encode(text[:cut])
            if self._is_settled(encoding, cut):
                return _ids_of(encoding)
            del encoding  # it may have a gigabyte
            cut *= CUT_GROWTH
        return _ids_of(self._encode(text))

    def _encode(self, text: str) -> Encoding:
        # As a batch of one: `encode` would keep every other Python thread waiting.
        return self._truncating.encode_batch([text])[0]

    def _is_settled(self, encoding: Encoding, cut: int) -> bool:
        """Whether what follows the cut cannot change the tokens kept."""
        beyond = encoding.overflowing  # rows of up to `max_tokens`
        end = max((stop for _, stop in encoding.offsets), default=0)
        if not self._cuts_end or not beyond or end > cut - CUT_MARGIN:
            return False
        if self._weighs_words:
            return _last_word(beyond[-1]) > _last_word(encoding)
        return len(beyond) > 1


def _ids_of(encoding: Encoding) -> TokenIds:
    return np.array(encoding.ids, np.int64)


def _last_word(encoding: Encoding) -> int:
    return max((word for word in encoding.word_ids if word is not None), default=-1)


def _load(path: Path) -> FastTokenizer:
    try:
        tokenizer = FastTokenizer.from_file(str(path))
    except BaseException as error:
        if not _is_the_tokenizers(error):
            raise
        raise BundleCorruptError(
            f"{path} is no tokenizer that this version of tokenizers reads ({str(error)[:300]}); "
            "copy or export the bundle again"
        ) from error
    if isinstance(tokenizer.model, models.BPE) and tokenizer.model.dropout:
        raise BundleFormatError(
            f"{path}: its BPE has dropout {tokenizer.model.dropout}, and would give a text other "
            "tokens each time; set it to null in the model's tokenizer.json and export again"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@contextmanager
def _naming(text: str, index: int | None) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if not _is_the_tokenizers(error):
            raise
        raise TokenizationError(
            f"breaks the tokenizer ({error}): it has {len(text):,} characters and starts "
            f"{start_of(text)}. Leave it out or change it",
            index,
        ) from error


def _is_the_tokenizers(error: BaseException) -> bool:
    """Whether the Rust side raised it: its errors have no class, its panics are no Exception.

    Not so an interrupt, or what a handler of signals raises.
    """
    return type(error) is Exception or type(error).__name__ == "PanicException"
