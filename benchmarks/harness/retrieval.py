"""Retrieval tasks in BEIR's layout: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/test.tsv``."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A retrieval task: queries, documents, and the relevance of documents to queries."""

    queries: list[str]
    """The queries that have judgments."""
    documents: list[str]
    """The title and text of each document, joined by a space."""
    judgments: list[dict[int, int]]
    """For each query, the relevance (above 0) of its documents by their index."""


def read_retrieval(folder: Path) -> Retrieval:
    """Read a task.

    Raises OSError if a file is missing, ValueError if a judgment names an unknown query or
    document.
    """
    documents, queries = (
        {each["_id"]: f"{each.get('title', '')} {each['text']}".strip() for each in entries}
        for entries in (read_entries(folder, "corpus"), read_entries(folder, "queries"))
    )
    positions = {identifier: index for index, identifier in enumerate(documents)}
    judged: dict[str, dict[int, int]] = {}
    for query, scores in read_judgments(folder).items():
        for document in scores:
            if query not in queries or document not in positions:
                raise ValueError(f"{folder}: no query {query} or no document {document}")
        if relevant := {positions[name]: score for name, score in scores.items() if score > 0}:
            judged[query] = relevant
    return Retrieval(
        [queries[query] for query in judged], list(documents.values()), list(judged.values())
    )


def read_entries(folder: Path, name: str) -> list[dict[str, str]]:
    """Return the objects in the lines of ``name.jsonl``, whose ``_id`` is a string."""
    with (folder / f"{name}.jsonl").open(encoding="utf-8-sig") as file:
        entries = [json.loads(line) for line in file if line.strip()]
    return [entry | {"_id": str(entry["_id"])} for entry in entries]


def read_judgments(folder: Path) -> dict[str, dict[str, int]]:
    """Return the score of each judged document, by the ids of the query and of the document."""
    judgments: defaultdict[str, dict[str, int]] = defaultdict(dict)
    with (folder / "qrels" / "test.tsv").open(newline="", encoding="utf-8-sig") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            judgments[line["query-id"]][line["corpus-id"]] = int(line["score"])
    return dict(judgments)
