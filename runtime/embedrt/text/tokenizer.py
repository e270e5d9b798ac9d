"""Tokenization: converts texts to token ids.

The tokenizer is configured once, at load. Changing its truncation or padding while another thread
encodes raises the error "Already borrowed".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

# The library reads this variable at every call. It would otherwise start a thread for each core,
# regardless of the configured number of threads, and a forked child would wait for them forever.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Encoding, models
from tokenizers import Tokenizer as FastTokenizer

from embedrt.bundle.manifest import Manifest, Side
from embedrt.errors import BundleCorruptError, BundleFormatError, TokenizationError
from embedrt.pair import Pair, characters
from embedrt.text.inputs import start_of

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
BLOCK_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One token of a text."""

    id: int
    text: str
    """The part of the text that the token covers; the name of a special token."""
    special: bool
    span: tuple[int, int] | None = None
    """Start and end of `text`, in characters; None for a special token."""


class Tokenizer:
    """A bundle's tokenizer, which truncates to `max_tokens`. Thread-safe.

    Without `add_special_tokens`, a text has only tokens of its own.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_tokens: int,
        max_characters: int | None = None,
        truncation_side: Side = "right",
        add_special_tokens: bool = True,
    ) -> None:
        self.max_tokens = max_tokens
        self.max_characters = max_characters
        self.most_characters = min(MOST_CHARACTERS, max_characters or MOST_CHARACTERS)
        self._adds_special = add_special_tokens
        self._path = path
        self.truncation_side: Side = truncation_side
        self._other_side: Tokenizer | None = None
        self._truncates_right = truncation_side == "right"
        self._first_cut = max_tokens * CHARACTERS_PER_TOKEN + CUT_MARGIN
        self._truncating = _load(path)
        special = self.special_tokens(pair=False) if add_special_tokens else 0
        if max_tokens < max(1, special):
            raise BundleFormatError(
                f"{path}: max_tokens is {max_tokens}, and {special} special tokens are added to "
                "each text; export the model again"
            )
        self._truncating.enable_truncation(max_tokens, direction=truncation_side)
        self._needs_whole_words = not isinstance(self._truncating.model, models.BPE)
        self._whole: FastTokenizer | None = None

    @classmethod
    def of(
        cls,
        path: Path,
        manifest: Manifest,
        *,
        max_tokens: int | None = None,
        add_special_tokens: bool = True,
    ) -> Self:
        """Return the tokenizer at `path` with the manifest's limits, or another `max_tokens`."""
        return cls(
            path,
            max_tokens=manifest.max_tokens if max_tokens is None else max_tokens,
            max_characters=manifest.max_characters,
            truncation_side=manifest.truncation_side,
            add_special_tokens=add_special_tokens,
        )

    def ids(self, text: str, index: int | None = None) -> TokenIds:
        """Return the token ids of one text. Shape: (tokens,), 0 <= tokens <= max_tokens.

        Raises TokenizationError with `index`.
        """
        with tokenization_errors(text, index):
            return _ids_of(self._encode_long(self.readable(text), special=self._adds_special))

    def batch_ids(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text, each of shape (tokens,).

        Raises TokenizationError with the index in `texts` of the first one that the tokenizer fails
        on.
        """
        ids: list[TokenIds] = []
        for start in range(0, len(texts), BLOCK):
            block = texts[start : start + BLOCK]
            try:
                ids += _ids_of_all(self.encode(block, special=self._adds_special))
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
            whole = self._without_truncation()
            return len(
                whole.encode_batch_fast([text], add_special_tokens=self._adds_special)[0].ids
            )

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
                raise ValueError(f"[{place}] is {number}, which is not a token id of this model")
        return str(whole.decode(list(ids), skip_special_tokens=skip_special))

    def token(self, number: int) -> str:
        """Return the token with this id; an empty string if there is none."""
        return self._truncating.id_to_token(number) or ""

    def largest_id(self) -> int:
        """Return the largest token id. Takes a tenth of a second for a large vocabulary."""
        return max(self._truncating.get_vocab(with_added_tokens=True).values())

    def special_tokens(self, *, pair: bool) -> int:
        """Return the number of special tokens that are added to a text, or to a pair."""
        return int(self._truncating.num_special_tokens_to_add(is_pair=pair))

    def encode_pair(self, first: str, second: str) -> Encoding:
        """Tokenize a pair that is not truncated."""
        return self._truncating.encode_batch([(first, second)])[0]

    def some_text(self) -> str:
        """Return a text of one or a few tokens."""
        for text in chain("a", self._truncating.get_vocab()):
            if self._truncating.encode_batch([text], add_special_tokens=False)[0].ids:
                return str(text)
        raise BundleFormatError(
            f"{self._path} gives no tokens for any text; export the model again"
        )

    def length(self, text: str) -> int:
        """Count the tokens of the readable part of a text, without special tokens.

        Uses up to 350 bytes of memory per character.
        """
        encoding = self._truncating.encode_batch_fast(
            [self.readable(text)], add_special_tokens=False
        )[0]
        return sum(len(piece.ids) for piece in (encoding, *encoding.overflowing))

    def other_side(self) -> Tokenizer:
        """Return the same tokenizer, which truncates on the other side."""
        if self._other_side is None:
            side: Side = "left" if self._truncates_right else "right"
            self._other_side = Tokenizer(
                self._path,
                max_tokens=self.max_tokens,
                max_characters=self.max_characters,
                truncation_side=side,
                add_special_tokens=self._adds_special,
            )
        return self._other_side

    def _without_truncation(self) -> FastTokenizer:
        if self._whole is None:
            # A second tokenizer, loaded on demand: the first one must not be reconfigured.
            self._whole = _load(self._path)
        return self._whole

    def readable(self, text: str) -> str:
        """Return the part of a text that is tokenized."""
        most = self.most_characters
        return text[:most] if self._truncates_right else text[-most:]

    def encode(self, texts: Sequence[str], *, special: bool = True) -> Iterator[Encoding]:
        """Tokenize texts and truncate each to `max_tokens`, with or without special tokens.

        Yields one encoding at a time, because that of a long text may take a gigabyte. Its overflow
        covers only the part of the text that was tokenized. The library's own errors are raised,
        see `is_tokenizer_error`.
        """
        cut = self._first_cut
        longest = max(map(len, texts), default=0)
        if longest > self.most_characters:
            texts = [self.readable(text) for text in texts]
        if len(texts) > 1 and sum(min(len(text), cut) for text in texts) > BLOCK_CHARACTERS:
            middle = len(texts) // 2
            yield from self.encode(texts[:middle], special=special)
            yield from self.encode(texts[middle:], special=special)
            return
        if longest <= cut:
            yield from self._truncating.encode_batch_fast(texts, add_special_tokens=special)
            return
        encodings = self._truncating.encode_batch(
            [text[:cut] for text in texts], add_special_tokens=special
        )
        for text, encoding in zip(texts, encodings, strict=True):
            if len(text) <= cut or self._is_settled(encoding, cut):
                yield encoding
            else:
                yield self._encode_long(text, special=special)

    def _encode_long(self, text: str, *, special: bool) -> Encoding:
        """Tokenize as much of a long text as determines its first `max_tokens` tokens."""
        cut = self._first_cut
        while self._truncates_right and cut < len(text):
            encoding = self._encode(text[:cut], special=special)
            if self._is_settled(encoding, cut):
                return encoding
            del encoding  # it may use a gigabyte of memory
            cut *= CUT_GROWTH
        return self._encode(text, special=special)

    def _encode(self, text: str, *, special: bool) -> Encoding:
        # A batch of one, because `encode` does not release the GIL.
        return self._truncating.encode_batch([text], add_special_tokens=special)[0]

    def _is_settled(self, encoding: Encoding, cut: int) -> bool:
        """Whether text behind the cut cannot change the first `max_tokens` tokens."""
        beyond = encoding.overflowing  # in pieces of up to `max_tokens` tokens
        end = max((stop for _, stop in encoding.offsets), default=0)
        if not self._truncates_right or not beyond or end > cut - CUT_MARGIN:
            return False
        if self._needs_whole_words:
            return _last_word(beyond[-1]) > _last_word(encoding)
        return len(beyond) > 1


def _ids_of(encoding: Encoding) -> TokenIds:
    return np.array(encoding.ids, np.int64)


def _ids_of_all(encodings: Iterable[Encoding]) -> list[TokenIds]:
    rows = [encoding.ids for encoding in encodings]
    ids = np.fromiter(chain.from_iterable(rows), np.int64)
    return [
        ids[end - len(row) : end] for row, end in zip(rows, accumulate(map(len, rows)), strict=True)
    ]


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
            f"{path}: its BPE has dropout {tokenizer.model.dropout}, and would give different "
            "tokens for the same text; set it to null in the model's tokenizer.json and export "
            "again"
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
