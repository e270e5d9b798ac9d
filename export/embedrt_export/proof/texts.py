"""The texts for comparing a bundle with the original model."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import cycle, islice

from embedrt.bundle.manifest import MAX_TOKENS
from embedrt_export.encoder import LONG

# Written for this project.
SAMPLES = (
    "",
    " ",
    "\t\n ",
    "a",
    "London",
    "How many people live in London?",
    "Around 9 Million people live in London",
    "London is known for its financial district",
    "THE SAME SENTENCE, SHOUTED!",
    "naïve façade coöperation Ångström",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "敏捷的棕色狐狸跳过了懒狗。",
    "素早い茶色の狐がのろまな犬を飛び越える。",
    "الثعلب البني السريع يقفز فوق الكلب الكسول",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है",
    "날쌘 갈색 여우가 게으른 개를 뛰어넘는다",
    "😀 👩‍👩‍👧‍👦 🏳️‍🌈 🇬🇧 flags, families and faces",
    "e\u0301 and \u00e9, \ufb01 and fi, \u2126 and \u03a9",
    "zero\u200bwidth\u200djoiners\ufeffand marks",
    "NUL \x00, bell \x07 and \ufffd",
    "def f(x):\n    return {k: v ** 2 for k, v in x.items()}",
    "https://example.org/a/b?c=d&e=f#g <p class='x'>html &amp; more</p>",
    "3.14159 1,000,000 1e-12 0xDEADBEEF 2026-11-21T00:00:00Z",
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 5,
)
WORDS = """
    the city grew around its river because boats could carry more grain than carts ever did and
    every bridge that was built became a market where people argued over prices weather news
    """.split()
UNLIMITED = 5_000  # tokens of the longest text for a model that takes any length
SHORT_LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377)

# Texts for calls with prompts; only a few, because some models have a hundred prompts. A tokenizer
# can merge the end of a prompt with the start of a text: spaces, or a letter with an accent.
PROMPTED = ("How many people live in London?", "", " London", "\u0301a")


def proof_texts(
    special_tokens: Sequence[str], max_tokens: int, count: Callable[[str], int]
) -> list[str]:
    """Return texts of many lengths up to three times `max_tokens`, edge cases and special tokens.

    `count` returns the number of tokens in a text. A model for long texts embeds only one text of
    maximum length, because it takes minutes; see `cut_texts` for the others.
    """
    lengths = [length for length in SHORT_LENGTHS if length < max_tokens]
    if max_tokens > LONG:
        lengths += [LONG, UNLIMITED if max_tokens == MAX_TOKENS else max_tokens * 3]
    else:
        lengths += [*_around(max_tokens), max_tokens * 3]
    special = [f"before {token} after {token}" for token in special_tokens]
    return [*SAMPLES, *special, " ".join(special_tokens), *(text_of(n, count) for n in lengths)]


def cut_texts(max_tokens: int, count: Callable[[str], int]) -> list[str]:
    """Return texts around `max_tokens`, for comparing token ids only."""
    around = _around(max_tokens) if LONG < max_tokens < MAX_TOKENS else []
    return [text_of(length, count) for length in around]


def _around(max_tokens: int) -> list[int]:
    return [max_tokens - 1, max_tokens, max_tokens + 1]


def text_of(tokens: int, count: Callable[[str], int], *, first: int = 0) -> str:
    """Return the shortest prefix, with `tokens` tokens, of a text with `tokens` words."""
    text = " ".join(islice(cycle(WORDS), first, first + tokens))
    return text[: bisect_left(range(len(text)), tokens, key=lambda end: count(text[:end]))]
