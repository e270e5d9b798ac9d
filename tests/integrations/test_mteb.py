"""Tests of the MTEB adapter: protocol, prompts by task, and the scores of two tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from mteb.models.models_protocols import EncoderProtocol
from mteb.types import PromptType

from benchmarks.mteb_scores import PUBLISHED, main_scores, scifact_of, sts_benchmark
from embedrt import Embedder
from embedrt.integrations.mteb import EmbedrtModel
from scifact import ABSTRACTS, CLAIMS, DOCUMENTS, QUERIES, ranking

DATA = Path(__file__).parents[1] / "data"
METADATA = mteb.get_task("SciFact").metadata


def encoded(model: EmbedrtModel, side: PromptType | None = None, **encode_kwargs: Any) -> Any:
    batches = [{"text": QUERIES[:7]}, {"text": QUERIES[7:]}]
    return model.encode(
        batches, task_metadata=METADATA, hf_split="test", hf_subset="default", prompt_type=side,
        batch_size=32, show_progress_bar=False, **encode_kwargs,
    )  # fmt: skip


def test_protocol(minilm: Path) -> None:
    model = EmbedrtModel(minilm, threads=1)
    assert isinstance(model, EncoderProtocol)
    meta = model.mteb_model_meta
    assert meta.name == "embedrt/all-MiniLM-L6-v2-fp32"
    assert (meta.embed_dim, meta.max_tokens) == (384, 256)
    assert meta.similarity_fn_name.value == "cosine"


def test_same_bytes(bundle: Path) -> None:
    model = EmbedrtModel(bundle)
    with Embedder.load(bundle) as plain:
        queries, documents = plain.encode_query(QUERIES), plain.encode_document(QUERIES)
        default = plain.encode(QUERIES)
        scores = plain.similarity(queries, documents)
        pairs = plain.similarity_pairwise(queries, documents)
    assert np.array_equal(encoded(model, PromptType.query), queries)
    assert np.array_equal(encoded(model, PromptType.document), documents)
    assert np.array_equal(encoded(model), default)
    assert np.array_equal(model.similarity(queries, documents), scores)
    assert np.array_equal(model.similarity_pairwise(queries, documents), pairs)


@pytest.mark.parametrize("side", [*PromptType, None])
def test_encode_kwargs(bundle: Path, side: PromptType | None) -> None:
    """MTEB records the precision with the results."""
    model = EmbedrtModel(bundle)
    plain: Any = {
        PromptType.query: model.embedder.encode_query,
        PromptType.document: model.embedder.encode_document,
        None: model.embedder.encode,
    }[side]
    chosen: dict[str, Any] = {"precision": "int8", "truncate_dim": 64}
    found, expected = encoded(model, side, **chosen), plain(QUERIES, **chosen)
    assert found.dtype == expected.dtype == np.int8
    assert np.array_equal(found, expected)
    with pytest.raises(TypeError, match="truncate_dims"):
        encoded(model, side, truncate_dims=64)


def test_prompts_by_task(prompted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MTEB's order of precedence is: task and side, task, type and side, type, side."""
    model = EmbedrtModel(prompted)
    prompts = dict(model.embedder.manifest.prompts)
    for name in ("query", "Retrieval", "Retrieval-query", "SciFact", "SciFact-query"):
        prompts[name] = f"{name}: "
        monkeypatch.setitem(model.embedder.manifest.prompts, name, f"{name}: ")
        expected = model.embedder.encode(QUERIES, prompt=f"{name}: ")
        assert np.array_equal(encoded(model, PromptType.query), expected)


def test_sts_benchmark(minilm: Path) -> None:
    """The score equals the published one in all digits of the leaderboard and three more."""
    (score,) = main_scores(minilm, [sts_benchmark(DATA)]).values()
    assert round(score, 5) == PUBLISHED["STSBenchmark"]


def test_scifact(minilm: Path, tmp_path: Path) -> None:
    texts = zip(ABSTRACTS, DOCUMENTS, strict=True)
    corpus = [{"_id": each["_id"], "title": "", "text": text} for each, text in texts]
    judged = {each["_id"]: {each["abstract"]: 1} for each in CLAIMS}
    task = scifact_of(corpus, CLAIMS, judged)
    results = mteb.evaluate(
        EmbedrtModel(minilm), task, cache=None, prediction_folder=tmp_path, co2_tracker=False,
        show_progress_bar=False,
    )  # fmt: skip
    (file,) = tmp_path.rglob("*.json")
    predictions = json.loads(file.read_text(encoding="utf-8"))["default"]["test"]
    found = [
        sorted(predictions[each["_id"]], key=predictions[each["_id"]].get, reverse=True)[:10]
        for each in CLAIMS
    ]
    assert found == ranking(minilm)
    gains = [
        1 / np.log2(2 + ids.index(each["abstract"])) if each["abstract"] in ids else 0
        for each, ids in zip(CLAIMS, found, strict=True)
    ]
    assert results.task_results[0].get_score() == pytest.approx(np.mean(gains), abs=1e-5)
