"""A retrieval task in BEIR's layout: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/test.tsv``."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Retrieval:
    """Queries, documents, and which of these answer which of those."""

    queries: list[str]
    """Those that have a judgment."""
    documents: list[str]
    """Title and text, joined by a space."""
    judgments: list[dict[int, int]]
    """For each query, relevance above 0 by the document's index."""


def read_retrieval(folder: Path) -> Retrieval:
    """Read a task.

    Raises
    ------
    OSError
        A file is not there.
    ValueError
        A judgment names a document or query that is not there.
    """
    corpus, queries = _read(folder / "corpus.jsonl"), _read(folder / "queries.jsonl")
    positions = {identifier: index for index, identifier in enumerate(corpus)}
    judged: defaultdict[str, dict[int, int]] = defaultdict(dict)
    with (folder / "qrels" / "test.tsv").open(newline="", encoding="utf-8-sig") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            query, document, score = line["query-id"], line["corpus-id"], int(line["score"])
            if query not in queries or document not in positions:
                raise ValueError(f"{folder}: no query {query} or no document {document}")
            if score > 0:
                judged[query][positions[document]] = score
    return Retrieval(
        [queries[query] for query in judged], list(corpus.values()), list(judged.values())
    )


def _read(path: Path) -> dict[str, str]:
    """Texts by identifier."""
    with path.open(encoding="utf-8-sig") as file:
        entries = [json.loads(line) for line in file if line.strip()]
    return {
        str(entry["_id"]): f"{entry.get('title', '')} {entry['text']}".strip() for entry in entries
    }
