"""Tokenization: converts texts to token ids.

The tokenizer is configured once, at load. Changing its truncation or padding while another thread
encodes raises the error "Already borrowed".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# The library reads this variable at every call. It would otherwise start a thread for each core,
# regardless of the configured number of threads, and a forked child would wait for them forever.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Encoding, models
from tokenizers import Tokenizer as FastTokenizer

from embedrt.bundle.manifest import Side
from embedrt.errors import BundleCorruptError, BundleFormatError, TokenizationError
from embedrt.text.inputs import Pair, start_of

TokenIds = NDArray[np.int64]

# A long text is cut before tokenization if the cut cannot change its first `max_tokens` tokens. The
# last of these must end at least CUT_MARGIN characters before the cut, and its word must end before
# the cut too; it can end far behind the token, because normalizers drop characters. BPE does not
# need whole words, because it merges from the left, but needs another `max_tokens` tokens before
# the cut.
CUT_MARGIN = 1024
CHARACTERS_PER_TOKEN = 8
CUT_GROWTH = 4

# Texts are always cut to this length: a single word of 10 MB takes half a minute and 3 GB.
MOST_CHARACTERS = 1_000_000

# Texts tokenized at once: encodings take about 100 times the memory of their token ids.
BLOCK = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One token of a text."""

    id: int
    text: str
    """The part of the text that the token stands for; of a special token, its name."""
    special: bool
    span: tuple[int, int] | None = None
    """Start and end of `text`, in characters; None for a special token."""


class Tokenizer:
    """A bundle's tokenizer, which truncates to `max_tokens`. Thread-safe."""

    def __init__(self, path: Path, *, max_tokens: int, truncation_side: Side = "right") -> None:
        self.max_tokens = max_tokens
        self._path = path
        self.truncation_side: Side = truncation_side
        self._other_side: Tokenizer | None = None
        self._truncates_right = truncation_side == "right"
        self._first_cut = max_tokens * CHARACTERS_PER_TOKEN + CUT_MARGIN
        self._truncating = _load(path)
        special = self._truncating.num_special_tokens_to_add(is_pair=False)
        if max_tokens < max(1, special):
            raise BundleFormatError(
                f"{path}: max_tokens is {max_tokens}, and {special} special tokens are added to "
                "each text; export the model again"
            )
        self._truncating.enable_truncation(max_tokens, direction=truncation_side)
        self._needs_whole_words = not isinstance(self._truncating.model, models.BPE)
        self._whole: FastTokenizer | None = None

    def ids(self, text: str, index: int | None = None) -> TokenIds:
        """Return the token ids of one text. Shape: (tokens,), 0 <= tokens <= max_tokens.

        Raises TokenizationError with `index`.
        """
        with tokenization_errors(text, index):
            return self._ids(self.readable(text))

    def batch_ids(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text, each of shape (tokens,).

        Raises TokenizationError with the index in `texts` of the first one that the tokenizer fails
        on.
        """
        ids: list[TokenIds] = []
        for start in range(0, len(texts), BLOCK):
            block = texts[start : start + BLOCK]
            try:
                ids += self._block_ids([self.readable(text) for text in block])
            except BaseException as error:
                if not is_tokenizer_error(error):
                    raise
                # Finds the text that fails. There may be none: a batch panics if the library cannot
                # start a thread.
                ids += [self.ids(text, index) for index, text in enumerate(block, start)]
        return ids

    def count(self, text: str | Pair, index: int | None = None) -> int:
        """Count the tokens of a whole text or pair before truncation, including special tokens.

        Uses up to 350 bytes of memory per character. Raises TokenizationError with `index`.
        """
        with tokenization_errors(text, index):
            return len(self._without_truncation().encode_batch_fast([text])[0].ids)

    def pieces(self, text: str, index: int | None = None, *, special: bool = True) -> list[Piece]:
        """Return the tokens of the whole text, with the special tokens that are added to it.

        Uses up to 350 bytes of memory per character. Raises TokenizationError with `index`.
        """
        with tokenization_errors(text, index):
            whole = self._without_truncation()
            encoding = whole.encode_batch([text], add_special_tokens=special)[0]
        columns = (encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets)
        return [
            Piece(id=number, text=token, special=True)
            if is_special
            else Piece(id=number, text=text[slice(*span)], special=False, span=span)
            for number, token, is_special, span in zip(*columns, strict=True)
        ]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Return the text of token ids. Raises ValueError for an id that is not the model's."""
        whole = self._without_truncation()
        for place, number in enumerate(ids):
            if whole.id_to_token(number) is None:
                raise ValueError(f"[{place}] is {number}, which is no token id of this model")
        return str(whole.decode(list(ids), skip_special_tokens=skip_special))

    def special_tokens(self, *, pair: bool) -> int:
        """Return the number of special tokens that are added to a text, or to a pair."""
        return int(self._truncating.num_special_tokens_to_add(is_pair=pair))

    def encode_pairs(self, pairs: Sequence[Pair]) -> list[Encoding]:
        """Tokenize pairs and truncate them to `max_tokens`, each at the longer text.

        The library's own errors are raised, see `is_tokenizer_error`.
        """
        return list(self._truncating.encode_batch_fast(list(pairs)))

    def cut(self, text: str) -> tuple[str, bool]:
        """Return the start of a text that determines its first tokens, and whether it has more.

        These are as many as fit into `max_tokens` beside the special tokens.
        """
        text = self.readable(text)
        cut = self._first_cut
        while self._truncates_right and cut < len(text):
            if self._is_settled(self._encode(text[:cut]), cut):
                return text[:cut], True
            cut *= CUT_GROWTH
        return text, bool(self._encode(text).overflowing)

    def is_short(self, text: str) -> bool:
        """Whether a text is tokenized whole, because it may have no more than `max_tokens`."""
        return len(text) <= self._first_cut or not self._truncates_right

    def other_side(self) -> Tokenizer:
        """Return the same tokenizer, which truncates on the other side."""
        if self._other_side is None:
            side: Side = "left" if self._truncates_right else "right"
            self._other_side = Tokenizer(
                self._path, max_tokens=self.max_tokens, truncation_side=side
            )
        return self._other_side

    def _without_truncation(self) -> FastTokenizer:
        if self._whole is None:
            # A second tokenizer, loaded on demand: the first one must not be reconfigured.
            self._whole = _load(self._path)
        return self._whole

    def readable(self, text: str) -> str:
        """Return the part of a text that is tokenized at most."""
        return text[:MOST_CHARACTERS] if self._truncates_right else text[-MOST_CHARACTERS:]

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
        """Tokenize as much of a long text as determines its first `max_tokens` tokens."""
        cut = self._first_cut
        while self._truncates_right and cut < len(text):
            encoding = self._encode(text[:cut])
            if self._is_settled(encoding, cut):
                return _ids_of(encoding)
            del encoding  # it may use a gigabyte of memory
            cut *= CUT_GROWTH
        return _ids_of(self._encode(text))

    def _encode(self, text: str) -> Encoding:
        # A batch of one, because `encode` does not release the GIL.
        return self._truncating.encode_batch([text])[0]

    def _is_settled(self, encoding: Encoding, cut: int) -> bool:
        """Whether text behind the cut cannot change the first `max_tokens` tokens."""
        beyond = encoding.overflowing  # in pieces of up to `max_tokens` tokens
        end = max((stop for _, stop in encoding.offsets), default=0)
        if not self._truncates_right or not beyond or end > cut - CUT_MARGIN:
            return False
        if self._needs_whole_words:
            return _last_word(beyond[-1]) > _last_word(encoding)
        return len(beyond) > 1


def characters(text: str | Pair) -> int:
    """Return the number of characters of a text or pair."""
    return len(text) if isinstance(text, str) else sum(map(len, text))


def _ids_of(encoding: Encoding) -> TokenIds:
    return np.array(encoding.ids, np.int64)


def _last_word(encoding: Encoding) -> int:
    return max((word for word in encoding.word_ids if word is not None), default=-1)


def _load(path: Path) -> FastTokenizer:
    try:
        tokenizer = FastTokenizer.from_file(str(path))
    except BaseException as error:
        if not is_tokenizer_error(error):
            raise
        raise BundleCorruptError(
            f"{path} is not a tokenizer that this version of tokenizers can read "
            f"({str(error)[:300]}); copy or export the bundle again"
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
def tokenization_errors(text: str | Pair, index: int | None) -> Iterator[None]:
    """Convert errors of the tokenizer to TokenizationError."""
    try:
        yield
    except BaseException as error:
        if not is_tokenizer_error(error):
            raise
        raise TokenizationError(
            f"breaks the tokenizer ({error}): it has {characters(text):,} characters and starts "
            f"{start_of(text)}. Leave it out or change it",
            index,
        ) from error


def is_tokenizer_error(error: BaseException) -> bool:
    """Whether the Rust library raised the error, and not, for example, a signal handler.

    Its errors are plain Exceptions without a class of their own; its panics are BaseExceptions.
    """
    return type(error) is Exception or type(error).__name__ == "PanicException"
