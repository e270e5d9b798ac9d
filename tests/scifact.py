"""The search that the integrations' tests share: 20 claims against 200 abstracts of SciFact."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from children import output_of
from embedrt import Embedder

FOLDER = Path(__file__).parent / "data" / "scifact"
TOP = 10


def _read(name: str) -> list[dict[str, str]]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


ABSTRACTS = _read("corpus.jsonl")
CLAIMS = _read("queries.jsonl")
# Only the beginnings, because complete abstracts take a minute on one core.
DOCUMENTS = [f"{each['title']} {each['text'][:300]}" for each in ABSTRACTS]
QUERIES = [each["text"] for each in CLAIMS]
IDS = [each["_id"] for each in ABSTRACTS]


@cache
def ranking(bundle: Path) -> list[list[str]]:
    """Return the ids of the best abstracts for each claim, best first, by `semantic_search`."""
    with Embedder.load(bundle) as embedder:
        found = embedder.semantic_search(
            embedder.encode_query(QUERIES), embedder.encode_document(DOCUMENTS), top_k=TOP
        )
    return [[IDS[hit.index] for hit in hits] for hits in found]


def found_by(program: str, folder: Path) -> list[list[str]]:
    """Run a program that searches the index in `folder`; return the ids that it prints as JSON."""
    ids: list[list[str]] = json.loads(
        output_of(program, folder, str(TOP), *QUERIES).splitlines()[-1]
    )
    return ids
