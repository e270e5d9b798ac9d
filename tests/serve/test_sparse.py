"""A bundle of a sparse encoder, served: TEI's `/embed_sparse`, and the routes of other tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from embedrt.bundle.manifest import QueryWeights
from serving import Serving, serving
from tiny_bundle import make_tiny
from tiny_sparse import make_tiny_sparse

PROMPTS = {"query": "w3 ", "document": "w4 "}
ANSWER = [{"index": 7, "value": 2.0}, {"index": 14, "value": 1.0}]


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("sparse")
    queries = QueryWeights(max_tokens=8, by_default=False)
    bundle = make_tiny_sparse(folder / "tiny", prompts=PROMPTS, queries=queries)
    with serving(bundle, folder / "log", "--served-name", "words", "--max-texts", "5") as server:
        yield server


@pytest.mark.parametrize("path", ["/embed_sparse", "/"])
def test_answer(sparse: Serving, path: str) -> None:
    assert sparse.post(path, {"inputs": "w1 w2 w1"}).json() == [ANSWER]
    found = sparse.post(path, {"inputs": ["w1 w2 w1", "", "w9"], "unknown": 5}).json()
    assert found == [ANSWER, [], [{"index": 63, "value": 1.0}]]


def test_prompts_choose_the_side(sparse: Serving) -> None:
    def of(name: str) -> Any:
        (row,) = sparse.post("/embed_sparse", {"inputs": "w1", "prompt_name": name}).json()
        return row

    assert of("query") == [{"index": 1, "value": 1.0}, {"index": 3, "value": 0.5}]
    assert of("document") == [{"index": 7, "value": 1.0}, {"index": 28, "value": 1.0}]


def test_truncation(sparse: Serving) -> None:
    text = "w1 " + "w2 " * 8
    right = sparse.post("/embed_sparse", {"inputs": text}).json()
    left = sparse.post("/embed_sparse", {"inputs": text, "truncation_direction": "Left"}).json()
    assert right == [[{"index": 7, "value": 1.0}, {"index": 14, "value": 7.0}]]
    assert left == [[{"index": 14, "value": 8.0}]]
    refused = sparse.post("/embed_sparse", {"inputs": [text], "truncate": False})
    assert refused.status_code == 422
    assert refused.json()["error_type"] == "Validation"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([1, 2], "inputs holds token ids"),
        ([], "inputs is empty"),
        (["a"] * 6, "inputs has 6 texts"),
        ([["a"]], "inputs[0] is a list"),
    ],
)
def test_errors(sparse: Serving, inputs: Any, message: str) -> None:
    answer = sparse.post("/embed_sparse", {"inputs": inputs})
    assert answer.status_code in (400, 422)
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"inputs": "w1"}),
        ("/embed_all", {"inputs": "w1"}),
        ("/rerank", {"query": "w1", "texts": ["w1"]}),
        ("/similarity", {"inputs": {"source_sentence": "w1", "sentences": ["w1"]}}),
        ("/v1/embeddings", {"input": "w1", "model": "words"}),
    ],
)
def test_routes_of_other_tasks(sparse: Serving, path: str, body: dict[str, Any]) -> None:
    answer = sparse.post(path, body)
    assert answer.status_code == (400 if path.startswith("/v1/") else 424)
    assert "does not serve this route" in answer.text


def test_a_dense_bundle_does_not_serve_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("dense")
    with serving(make_tiny(folder / "tiny"), folder / "log") as server:
        answer = server.post("/embed_sparse", {"inputs": "w1"})
    assert answer.status_code == 424
    assert answer.json()["error_type"] == "Backend"


def test_info_health_and_tokens(sparse: Serving) -> None:
    info = sparse.get("/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "splade"}}
    assert sparse.get("/health").status_code == 200
    assert sparse.get("/card").json()["dimension"] == 70
    assert [[token["id"] for token in sparse.post("/tokenize", {"inputs": "w1"}).json()[0]]] == [
        [1]
    ]
    assert "embedrt_texts_total" in sparse.get("/metrics").text
