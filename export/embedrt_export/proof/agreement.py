"""The comparison that a bundle must pass before it exists."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from embedrt import Embedder
from embedrt.bundle.manifest import Agreement, Precision
from embedrt.errors import ProofError
from embedrt.verify import largest_difference
from embedrt_export.int8.quality import row_cosines
from embedrt_export.proof.oracle import Oracle

# What a component may differ by, and the smallest cosine. For int8 this finds what is broken; how
# good it is was judged before, against fp32.
TOLERANCE: dict[Precision, float] = {"fp32": 2e-6, "int8": 0.15}
MIN_COSINE: dict[Precision, float] = {"fp32": 0.999999, "int8": 0.95}

# Written for this purpose.
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
SHORT_LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377)
NEIGHBORS = 2  # of each length


def proof_texts(
    special_tokens: Sequence[str], max_tokens: int, count: Callable[[str], int]
) -> list[str]:
    """Return texts of one token up to past the maximum, odd ones, and ones with special tokens.

    `count` counts a text's tokens.
    """
    lengths = [length for length in SHORT_LENGTHS if length < max_tokens]
    lengths += [max_tokens - 1, max_tokens, max_tokens + 1, max_tokens * 3]
    special = [f"before {token} after {token}" for token in special_tokens]
    return [*SAMPLES, *special, " ".join(special_tokens), *(_text_of(n, count) for n in lengths)]


def measure_agreement(embedder: Embedder, oracle: Oracle, texts: Sequence[str]) -> Agreement:
    """Compare the bundle, through the runtime, with the original on `texts`, each alone."""
    expected = oracle.embed(texts)
    found = np.stack([embedder.encode(text, prompt="") for text in texts])
    if found.shape != expected.shape:
        raise ProofError(
            f"the bundle gives {found.shape[1]} components and the original {expected.shape[1]}"
        )
    return Agreement(
        reference=oracle.name,
        texts=len(texts),
        max_difference=largest_difference(found, expected, normalized=embedder.manifest.normalized),
        tolerance=TOLERANCE[embedder.manifest.precision],
        min_cosine=float(np.min(row_cosines(found, expected))),
        same_bytes=_same_bytes(embedder, texts, found),
    )


def require_agreement(agreement: Agreement, precision: Precision = "fp32") -> None:
    """Raise ProofError with the figures unless the bundle agrees with its original."""
    reasons = []
    min_cosine = MIN_COSINE[precision]
    # Written so that NaN fails.
    if not agreement.max_difference <= agreement.tolerance:
        reasons.append(
            f"a component differs by {agreement.max_difference:.2e}; "
            f"at most {agreement.tolerance:g} is allowed"
        )
    if not agreement.min_cosine >= min_cosine:
        reasons.append(f"a cosine is {agreement.min_cosine:.7f}; at least {min_cosine} is required")
    if not agreement.same_bytes:
        reasons.append("a text gives other bytes in a batch than alone")
    if reasons:
        raise ProofError(
            f"the bundle does not agree with {agreement.reference} on {agreement.texts} texts: "
            f"{'; '.join(reasons)}. Nothing was written"
        )


def _same_bytes(embedder: Embedder, texts: Sequence[str], alone: NDArray[np.float32]) -> bool:
    """Whether each text has its own bytes among others, some of them of its length."""
    lengths = sorted({int(length) for length in embedder.count_tokens(texts)})
    others = [
        _text_of(length, embedder.count_tokens, first=first)
        for length in lengths
        for first in range(1, 1 + NEIGHBORS)
    ]
    mixed = [*texts, *others]
    order = np.random.default_rng(0).permutation(len(mixed))
    together = np.empty((len(mixed), alone.shape[1]), np.float32)
    together[order] = embedder.encode([mixed[index] for index in order], prompt="")
    return together[: len(texts)].tobytes() == alone.tobytes()


def _text_of(tokens: int, count: Callable[[str], int], *, first: int = 0) -> str:
    """Return the shortest beginning of a text of as many words that has so many tokens."""
    text = " ".join(islice(cycle(WORDS), first, first + tokens))
    return text[: bisect_left(range(len(text)), tokens, key=lambda end: count(text[:end]))]
