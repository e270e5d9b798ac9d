"""The texts of every workload: made once per tokenizer, the same for all contenders.

Sentences come from the test set of the STS benchmark; longer texts join sentences. The texts of a
workload are all different. Random choices have fixed seeds, so every run has the same texts.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.checkout import ROOT
from benchmarks.padding import open_tokenizer

STSB = ROOT / "tests" / "data" / "stsb" / "stsb-en-test.csv"
JOINED = (4, 8, 12, 16)  # sentences per longer text
SHARE_JOINED = 0.4
CALLS = 20  # different texts of one length
BLOCK = 1000  # texts per call of the memory workload
UNLIMITED = 10**6  # tokens


Judged = tuple[str, str, float]
"""A pair of sentences and its human score."""


def read_pairs(file: Path = STSB) -> list[Judged]:
    """Return the pairs of a file of the STS benchmark, by default of its test set."""
    with file.open(newline="", encoding="utf-8") as lines:
        return [(first, second, float(score)) for first, second, score in csv.reader(lines)]


def sentences() -> list[str]:
    """Return all sentences of the test set, without duplicates."""
    return list(
        dict.fromkeys(text for first, second, _ in read_pairs() for text in (first, second))
    )


def mixed_texts(count: int, seed: int) -> list[str]:
    """Return different texts in random order: single sentences, and texts of several sentences."""

    def size(generator: random.Random) -> int:
        return generator.choice(JOINED) if generator.random() < SHARE_JOINED else 1

    return _joined_texts(count, seed, size)


def many_texts(count: int, seed: int) -> list[str]:
    """Return different texts of many lengths, most of them short."""
    return _joined_texts(count, seed, lambda random: min(40, int(random.paretovariate(1.5))))


def exact_texts(tokenizer: Tokenizer, tokens: int, count: int) -> list[str]:
    """Return different texts of exactly `tokens` tokens, including special tokens."""
    special = len(tokenizer.encode("").ids)
    words = dict.fromkeys(word for text in sentences() for word in text.lower().split())
    plain = (word for word in words if word.isascii() and word.isalpha())
    # Words that are a single token at any position.
    single = [word for word in plain if len(tokenizer.encode(f"a {word}").ids) == special + 2]
    generator = random.Random(tokens)  # noqa: S311
    texts = [" ".join(generator.choices(single, k=tokens - special)) for _ in range(count)]
    if any(len(tokenizer.encode(text).ids) != tokens for text in texts) or len(set(texts)) < count:
        raise ValueError(f"this tokenizer does not allow {count} texts of {tokens} tokens")
    return texts


def texts_of(tokenizer: Tokenizer, key: str) -> list[str]:
    """Return the texts of a workload's key, ``kind/number``."""
    kind, _, number = key.partition("/")
    if kind.startswith("exact"):
        return exact_texts(tokenizer, int(number), int(kind.removeprefix("exact") or CALLS))
    match kind:
        case "mixed":
            return mixed_texts(int(number), seed=int(number))
        case "block":
            return many_texts(BLOCK, seed=int(number))
        case "sentences":
            return sentences()[: int(number)] if number else sentences()
    raise ValueError(f"there are no texts {key!r}")


class Texts:
    """Files of texts for one model, written at first use."""

    def __init__(self, folder: Path, source: Path, max_tokens: int) -> None:
        made_of = Path(__file__).read_bytes() + STSB.read_bytes()
        self.folder = folder / hashlib.sha256(made_of).hexdigest()[:12]
        self._source = source
        self._max_tokens = max_tokens

    def file(self, key: str) -> Path:
        """Return the path of a JSON list of the texts."""
        path = self.folder / f"{key.replace('/', '-')}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            texts = texts_of(open_tokenizer(self._source, UNLIMITED), key)
            path.write_text(json.dumps(texts), encoding="utf-8")
        return path

    def read(self, key: str) -> list[str]:
        """Return the texts."""
        texts: list[str] = json.loads(self.file(key).read_text(encoding="utf-8"))
        return texts

    @cache  # noqa: B019 - there are few of these
    def tokens(self, key: str) -> int:
        """Return the total number of tokens of the texts, truncated as the model truncates them."""
        tokenizer = open_tokenizer(self._source, self._max_tokens)
        return sum(len(encoding) for encoding in tokenizer.encode_batch_fast(self.read(key)))


def _joined_texts(count: int, seed: int, size: Callable[[random.Random], int]) -> list[str]:
    """Return different texts, each of `size` random sentences."""
    source, generator, texts = sentences(), random.Random(seed), dict[str, None]()  # noqa: S311
    while len(texts) < count:
        texts[" ".join(generator.sample(source, size(generator)))] = None
    return list(texts)
