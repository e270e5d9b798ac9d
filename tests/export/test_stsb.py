"""Test of the model's published score on a public test set."""

from __future__ import annotations

import csv
from pathlib import Path

from scipy.stats import spearmanr

from embedrt import Embedder

FILE = Path(__file__).parents[1] / "data" / "stsb" / "stsb-en-test.csv"
PUBLISHED = 82.03  # all-MiniLM-L6-v2's on MTEB: 82.032


def test_spearman_on_stsb(embedder: Embedder) -> None:
    with FILE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1379
    first = embedder.encode([row[0] for row in rows])
    second = embedder.encode([row[1] for row in rows])
    scores = embedder.similarity_pairwise(first, second)
    rank = spearmanr(scores, [float(row[2]) for row in rows]).statistic
    assert round(100 * rank, 2) == PUBLISHED
