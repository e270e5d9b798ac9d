"""The texts of every workload: made once for a model's tokenizer, the same for all contenders.

Sentences are those of the STS benchmark's test set. Longer texts join sentences, and no two texts
of one workload are equal. Nothing here depends on chance: random choices have a fixed seed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.padding import open_tokenizer

ROOT = Path(__file__).parents[1]
STSB = ROOT / "tests" / "data" / "stsb" / "stsb-en-test.csv"
CALIBRATION = ROOT / "export" / "embedrt_export" / "calibration.txt"
JOINED = (4, 8, 12, 16)  # sentences in a longer text
SHARE_JOINED = 0.4
CALLS = 20  # different texts of one length
GROWTH_TEXTS = 16
BLOCK = 1000  # texts in a call, where memory is measured


def pairs() -> list[tuple[str, str, float]]:
    """Sentences of the STS benchmark's test set, two by two, each with people's score."""
    with STSB.open(newline="", encoding="utf-8") as file:
        return [(first, second, float(score)) for first, second, score in csv.reader(file)]


def sentences() -> list[str]:
    """All sentences of the set, each once."""
    return list(dict.fromkeys(text for first, second, _ in pairs() for text in (first, second)))


def mixed_texts(count: int, seed: int) -> list[str]:
    """Sentences, and texts of many sentences, in no order of length; all different."""
    source, generator, texts = sentences(), random.Random(seed), dict[str, None]()  # noqa: S311
    while len(texts) < count:
        joined = generator.choice(JOINED) if generator.random() < SHARE_JOINED else 1
        texts[" ".join(generator.sample(source, joined))] = None
    return list(texts)


def many_texts(count: int, seed: int) -> list[str]:
    """Texts of many lengths, most of them short; all different."""
    source, generator, texts = sentences(), random.Random(seed), dict[str, None]()  # noqa: S311
    while len(texts) < count:
        joined = min(40, int(generator.paretovariate(1.5)))
        texts[" ".join(generator.sample(source, joined))] = None
    return list(texts)


def exact_texts(tokenizer: Tokenizer, tokens: int, count: int) -> list[str]:
    """Different texts of exactly so many tokens, special ones included."""
    words = _single_tokens(tokenizer)
    special = len(tokenizer.encode("").ids)
    generator = random.Random(tokens)  # noqa: S311
    texts = [" ".join(generator.choices(words, k=tokens - special)) for _ in range(count)]
    if any(len(tokenizer.encode(text).ids) != tokens for text in texts) or len(set(texts)) < count:
        raise ValueError(f"this tokenizer does not let us make {count} texts of {tokens} tokens")
    return texts


def batch_texts(tokenizer: Tokenizer, key: str) -> list[str]:
    """The texts that a workload's key names: ``kind/number``."""
    kind, _, number = key.partition("/")
    match kind:
        case "exact":
            return exact_texts(tokenizer, int(number), CALLS)
        case "exact16":
            return exact_texts(tokenizer, int(number), GROWTH_TEXTS)
        case "mixed":
            return mixed_texts(int(number), seed=int(number))
        case "block":
            return many_texts(BLOCK, seed=int(number))
        case "sentences":
            return sentences()[: int(number)] if number else sentences()
    raise ValueError(f"there are no texts {key!r}")


class Texts:
    """Files of texts for one model, made when first asked for."""

    def __init__(self, folder: Path, source: Path, max_tokens: int) -> None:
        self.folder = folder / _digest()
        self._source = source
        self._max_tokens = max_tokens

    def file(self, key: str) -> Path:
        """A JSON list of the texts."""
        path = self.folder / f"{key.replace('/', '-')}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            texts = batch_texts(self._tokenizer(10**6), key)
            path.write_text(json.dumps(texts), encoding="utf-8")
        return path

    def read(self, key: str) -> list[str]:
        """The texts themselves."""
        texts: list[str] = json.loads(self.file(key).read_text(encoding="utf-8"))
        return texts

    @cache  # noqa: B019 - as many as there are models
    def tokens(self, key: str) -> int:
        """Tokens of all the texts, as the model cuts them."""
        encodings = self._tokenizer(self._max_tokens).encode_batch_fast(self.read(key))
        return sum(len(encoding) for encoding in encodings)

    def _tokenizer(self, max_tokens: int) -> Tokenizer:
        return open_tokenizer(self._source, max_tokens)


def _single_tokens(tokenizer: Tokenizer) -> Sequence[str]:
    """Words of the sentences that are one token each, wherever they stand."""
    special = len(tokenizer.encode("").ids)
    words = dict.fromkeys(_words())
    return [word for word in words if len(tokenizer.encode(f"a {word}").ids) == special + 2]


def _words() -> Iterator[str]:
    for sentence in sentences():
        yield from (word for word in sentence.lower().split() if word.isascii() and word.isalpha())


def _digest() -> str:
    return hashlib.sha256(Path(__file__).read_bytes() + STSB.read_bytes()).hexdigest()[:12]
