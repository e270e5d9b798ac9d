"""Hypothesis strategies for unusual texts: all of Unicode, and unpaired surrogates."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

SPECIAL_TOKENS = "[CLS] [SEP] [PAD] [MASK] [UNK] <s> </s> <pad> <mask> <unk> <|endoftext|>".split()
INSIDE_TOKENIZERS = ["##ing", "##", "▁", "▁the", "Ġ", "Ċ", "[CLS", "< s >", "[cls]", "</S>"]
CONTROLS = list("\x00\x01\x08\x0b\x0c\x1b\x7f\x85\xad\ufeff\ufffc\ufffd\ufffe\uffff\U0010ffff")
SPACES = list(" \t\n\r\xa0\u1680\u2003\u200b\u2028\u2029\u202f\u3000\u3164")
JOINERS = [
    "\u200c",
    "\u200d",
    "\u2060",
    "\ufe0f",
    "👩\u200d👩\u200d👧",
    "🇬🇧",
    "👍🏽",
    "क\u094d\u200dष",
]
RIGHT_TO_LEFT = ["שלום", "السلام", "\u202eabc\u202c", "\u2067א\u2069", "\u200f", "\u200e"]
EXPANDING = ["ﷺ", "ẞ", "İ", "ǰ", "ﬃ", "½", "㋿", "한글", "\u1112\u1161\u11ab", "\U0001d400", "Å"]
PRIVATE = ["\ue000", "\U000f0000", "\U000e0001", "\U000e0041"]
SURROGATES = ["\ud800", "\udbff", "\udc00", "\udfff", "\udc80", "\ud83d\ude00", "\ude00\ud83d"]
WORDS = ["London", "naïve", "лиса", "敏捷", "the lazy dog", "9", "x" * 101, "antidisestablishment"]

PIECES = st.sampled_from(
    SPECIAL_TOKENS
    + INSIDE_TOKENIZERS
    + CONTROLS
    + SPACES
    + JOINERS
    + RIGHT_TO_LEFT
    + EXPANDING
    + PRIVATE
    + SURROGATES
    + WORDS
)
MARKS = st.sampled_from("\u0301\u0323\u034f\u0489\u20dd\u3099\u05b0\u0651\ufe20")

# Any Python string, including unpaired surrogates.
ANYTHING = st.text(st.characters(exclude_categories=[]) | st.characters(categories=["Cs"]))

FLOODS = st.tuples(PIECES | MARKS, MARKS | PIECES, st.integers(1, 300)).map(
    lambda part: part[0] + part[1] * part[2]
)

ODD_TEXTS: SearchStrategy[str] = (
    st.lists(PIECES, max_size=8).map("".join)
    | st.lists(PIECES, max_size=8).map(" ".join)
    | st.lists(PIECES | FLOODS, max_size=3).map("".join)
    | ANYTHING
)

# 25 texts per example, so that few examples cover many texts. Without `unique`, most would repeat.
LISTS: SearchStrategy[list[str]] = st.lists(ODD_TEXTS, min_size=25, max_size=25, unique=True)


def plainly_well_formed(text: str) -> str:
    """Join surrogate pairs and replace unpaired surrogates by U+FFFD, one by one."""
    found = ""
    position = 0
    while position < len(text):
        high, low = text[position], text[position + 1 : position + 2]
        if "\ud800" <= high <= "\udbff" and low and "\udc00" <= low <= "\udfff":
            found += chr(0x10000 + ((ord(high) - 0xD800) << 10) + ord(low) - 0xDC00)
            position += 2
        else:
            found += "\ufffd" if "\ud800" <= high <= "\udfff" else high
            position += 1
    return found
