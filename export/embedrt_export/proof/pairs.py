"""The pairs of texts for comparing a reranker with the original model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from embedrt.pair import Pair
from embedrt_export.encoder import LONG
from embedrt_export.proof.texts import SAMPLES, SHORT_LENGTHS, text_of

QUERY = "How many people live in London?"

# Texts of each side, beyond the maximum: with the other side short, equally long, and longer.
BEYOND = ((1, 3), (3, 1), (2, 2), (2, 3), (3, 2))

# Pairs for calls with prompts.
PROMPTED = ((QUERY, "Around 9 Million people live in London"), ("", "a"), (" London", ""))


def proof_pairs(
    special_tokens: Sequence[str], max_tokens: int, count: Callable[[Pair], int]
) -> list[Pair]:
    """Return pairs of many lengths on both sides, edge cases and special tokens.

    `count` returns the number of tokens in a pair. For a model of long texts, only one pair is
    beyond the maximum, because it takes minutes; see `cut_pairs` for the others.
    """
    special = [f"before {token} after {token}" for token in special_tokens]
    lengths = [length for length in SHORT_LENGTHS if length < max_tokens]
    pairs = [(QUERY, text) for text in SAMPLES]
    pairs += [(text, SAMPLES[6]) for text in (*SAMPLES, " ".join(special_tokens))]
    pairs += [pair for text in special for pair in ((text, QUERY), (QUERY, text))]
    pairs += [(QUERY, _text_of(n, count)) for n in lengths]
    pairs += [(_text_of(n, count), "a bridge") for n in lengths[: len(lengths) // 2]]
    if max_tokens > LONG:
        pairs += [(QUERY, _text_of(LONG, count)), (QUERY, _text_of(max_tokens * 3, count))]
    else:
        pairs += cut_pairs(max_tokens, count)
    return list(dict.fromkeys(pairs))


def cut_pairs(max_tokens: int, count: Callable[[Pair], int]) -> list[Pair]:
    """Return pairs around and beyond `max_tokens`, with one long side and with two."""
    around = [_text_of(max_tokens + more, count) for more in (-6, -1, 0, 1)]
    pairs = [pair for text in around for pair in ((text, "a"), ("a", text))]
    for first, second in BEYOND:
        one, other = (_text_of(max_tokens * half // 2, count) for half in (first, second))
        pairs.append((one, other))
    return pairs


def _text_of(tokens: int, count: Callable[[Pair], int]) -> str:
    """Return a text of `tokens` tokens, without those that a pair with an empty text adds."""
    alone = count(("", ""))
    return text_of(max(tokens, 1), lambda text: count((text, "")) - alone)
