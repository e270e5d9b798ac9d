"""Odd texts for testing int8: all of Unicode, repeated marks, special tokens."""

from __future__ import annotations

import random
import string

SPECIAL = "[CLS] [SEP] [PAD] [MASK] [UNK] <s> </s> <pad> <mask> ##ing ## ▁the Ġ".split()
UNUSUAL = [
    *("\x00", "\x1b", "\x7f", "\xad", "\ufeff", "\ufffd", "\uffff", "\U0010ffff", "\ud800"),
    *("\t", "\r\n", "\xa0", "\u200b", "\u2028", "\u3000", "\u200d", "\ufe0f", "\u202e"),
    *("שלום", "السلام", "敏捷", "лиса", "한글", "naïve", "ﷺ", "İ", "ﬃ", "½", "\U0001d400", "👍🏽"),
    *("x" * 101, "9" * 40, "antidisestablishment", "https://a.b/c?d=e&f=%20", "!!!", "()", "#@"),
]
MARKS = "\u0301\u0323\u0489\u20dd\u3099\u05b0\u0651\ufe20"
PLAIN = "the of London is a lazy dog price 7 not can river music who why and".split()
BLOCKS = (
    *((0x20, 0x17F), (0x370, 0x5FF), (0x600, 0x6FF), (0x900, 0xDFF), (0x2000, 0x2BFF)),
    *((0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF), (0, 0x10FFFF)),
)
LONGEST_FLOOD = 300  # characters


def odd_texts(count: int, seed: int) -> list[str]:
    """Return different texts, the same for the same seed. Some have unpaired surrogates."""
    generator, texts = random.Random(seed), dict[str, None]()  # noqa: S311
    kinds = (_characters, _letters, _pieces, _flood, _words)
    while len(texts) < count:
        texts[generator.choice(kinds)(generator)] = None
    return list(texts)


def _characters(generator: random.Random) -> str:
    """Return characters of one block of Unicode."""
    first, last = generator.choice(BLOCKS)
    length = generator.randint(0, 60)
    return "".join(chr(generator.randint(first, last)) for _ in range(length))


def _letters(generator: random.Random) -> str:
    """Return noise in ASCII: passwords, hashes, numbers, markup."""
    alphabet = generator.choice((string.printable, string.punctuation, "0123456789abcdef", "01 "))
    return "".join(generator.choices(alphabet, k=generator.randint(1, 120)))


def _pieces(generator: random.Random) -> str:
    """Return special tokens, controls, scripts and words, joined with and without spaces."""
    pieces = generator.choices((*SPECIAL, *UNUSUAL, *PLAIN), k=generator.randint(1, 12))
    return generator.choice(("", " ")).join(pieces)


def _flood(generator: random.Random) -> str:
    """Return one piece, and another many times over."""
    pieces: list[str] = [*SPECIAL, *UNUSUAL, *MARKS, *PLAIN]
    first, again = generator.choices(pieces, k=2)
    times = generator.randint(1, LONGEST_FLOOD) // len(again)
    between: str = generator.choice(("", " "))
    return first + between.join([again] * times)


def _words(generator: random.Random) -> str:
    """Return few words in no order, in capitals or mirrored at times."""
    text = " ".join(generator.choices(PLAIN, k=generator.randint(1, 30)))
    return generator.choice((text, text.upper(), text.title(), text[::-1]))
