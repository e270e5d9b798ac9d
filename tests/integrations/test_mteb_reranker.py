"""MTEB's protocol of cross-encoders, and a reranking task over local documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb.models.models_protocols import CrossEncoderProtocol

from embedrt import Reranker
from embedrt.errors import BundleFormatError
from embedrt.integrations.mteb_reranker import EmbedrtCrossEncoder
from tiny_bundle import make_tiny

TEXTS = {"a": "w1", "b": "w9", "c": "w1 w1 w1", "d": "w2"}


def test_protocol(ranks: Path) -> None:
    model = EmbedrtCrossEncoder(ranks, threads=1)
    assert isinstance(model, CrossEncoderProtocol)
    assert model.mteb_model_meta.name == "embedrt/tiny"
    assert model.mteb_model_meta.is_cross_encoder
    with Reranker.load(ranks) as reranker:
        assert EmbedrtCrossEncoder(reranker).reranker is reranker


def test_predict(ranks: Path) -> None:
    batches: tuple[Any, Any] = (
        [{"text": ["w1", "w2"]}, {"text": ["w3"]}],
        [{"text": ["w4", "w5 w5"]}, {"text": [""]}],
    )
    found = EmbedrtCrossEncoder(ranks).predict(*batches, task_metadata=None, batch_size=2)
    assert found.tolist() == [4, 10, 0]
    assert found.dtype == np.float32
    chosen = EmbedrtCrossEncoder(ranks).predict(*batches, activation_fn="Sigmoid")
    assert chosen.max() < 1
    with pytest.raises(TypeError, match="precision"):
        EmbedrtCrossEncoder(ranks).predict(*batches, precision="int8")
    with pytest.raises(ValueError, match="shorter"):
        EmbedrtCrossEncoder(ranks).predict(batches[0], batches[1][:1])


def test_a_bundle_of_another_task(tmp_path: Path) -> None:
    with pytest.raises(BundleFormatError, match=r"use Embedder\.load"):
        EmbedrtCrossEncoder(make_tiny(tmp_path / "dense"))


def test_a_reranking_task(ranks: Path, tmp_path: Path) -> None:
    """The relevant document is the second best of four: its reciprocal rank is a half."""
    task = mteb.get_task("AskUbuntuDupQuestions")
    split = {
        "corpus": Dataset.from_list(
            [{"id": name, "title": "", "text": text} for name, text in TEXTS.items()]
        ),
        "queries": Dataset.from_list([{"id": "q", "text": "w1"}]),
        "relevant_docs": {"q": {"c": 1}},
        "top_ranked": {"q": list(TEXTS)},
    }
    task.dataset = {"default": {"test": split}}
    task.data_loaded = True
    results = mteb.evaluate(
        EmbedrtCrossEncoder(ranks), task, cache=None, prediction_folder=tmp_path,
        co2_tracker=False, show_progress_bar=False,
    )  # fmt: skip
    assert results.task_results[0].get_score() == pytest.approx(0.5)
    (file,) = tmp_path.rglob("*predictions.json")
    found = json.loads(file.read_text(encoding="utf-8"))["default"]["test"]["q"]
    assert found == {"a": 1, "b": 9, "c": 3, "d": 2}
