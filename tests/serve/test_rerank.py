"""Routes of rerankers: the scores are `Reranker.predict`'s, bit for bit; errors by dialect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Reranker
from serving import Serving, serving
from tiny_bundle import make_tiny

QUERY = "How many people live in London?"
TEXTS = ["Around 9 million people.", "", "the same", "naïve 🦙 " + "word " * 90, "the same"]
COHERE = ("/v1/rerank", "/v2/rerank", "/rerank")
POSTS = ("/rerank", "/v1/rerank", "/v2/rerank", "/predict", "/", "/tokenize", "/decode")


def scores_of(reranker: Reranker, activation: str | None = "Sigmoid", **options: Any) -> Any:
    pairs = [(QUERY, text) for text in TEXTS]
    return reranker.predict(pairs, activation_fn=activation, **options)


def best_first(scores: Any) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: -scores[index])


@pytest.fixture(scope="module")
def three(rerankers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    log = tmp_path_factory.mktemp("three") / "log"
    with serving(rerankers / "three", log) as server:
        yield server


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("embedding")
    with serving(make_tiny(folder / "tiny"), folder / "log") as server:
        yield server


class TestTEI:
    @pytest.mark.parametrize("path", ["/rerank", "/"])
    @pytest.mark.parametrize("raw", [True, False])
    def test_rerank(self, ranking: Serving, reranker: Reranker, path: str, raw: bool) -> None:
        fields = {"query": QUERY, "texts": TEXTS, "raw_scores": raw, "unknown": 1}
        found = ranking.post(path, fields).json()
        scores = scores_of(reranker, "Identity" if raw else "Sigmoid")
        assert [each.keys() for each in found] == [{"index", "score"}] * len(TEXTS)
        by_index = {each["index"]: np.float32(each["score"]) for each in found}
        assert [by_index[index] for index in range(len(TEXTS))] == scores.tolist()
        listed = [each["score"] for each in found]
        assert listed == sorted(listed, reverse=True)
        assert abs(np.diff(scores_of(reranker, "Identity"))).max() > 0.1  # an order worth the name

    def test_of_equal_scores_the_larger_index_comes_first(self, ranking: Serving) -> None:
        found = ranking.post("/rerank", {"query": QUERY, "texts": TEXTS}).json()
        order = [each["index"] for each in found]
        assert order.index(4) + 1 == order.index(2)

    def test_text_and_number(self, ranking: Serving) -> None:
        fields = {"query": QUERY, "texts": TEXTS, "return_text": True}
        found = ranking.post("/rerank", fields).json()
        assert [each["text"] for each in found] == [TEXTS[each["index"]] for each in found]
        assert ranking.post("/rerank", {**fields, "top_n": 2}).json() == found[:2]
        assert ranking.post("/rerank", {**fields, "top_n": 9}).json() == found

    @pytest.mark.parametrize("side", ["Left", "right", None])
    def test_truncation(self, ranking: Serving, reranker: Reranker, side: str | None) -> None:
        fields = {"query": QUERY, "texts": TEXTS[3:4], "truncation_direction": side}
        (found,) = ranking.post("/rerank", fields).json()
        ids = reranker.tokenizer  # the bundle's own side is the right one
        assert ids.truncation_side == "right"
        right = scores_of(reranker)[3]
        assert (np.float32(found["score"]) == right) == (side != "Left")
        refused = ranking.post("/rerank", {**fields, "truncate": False})
        assert refused.status_code == 422
        assert refused.json()["error"].startswith("texts[0] is too long: it has ")

    def test_predict(self, ranking: Serving, reranker: Reranker) -> None:
        pairs = [[QUERY, text] for text in TEXTS]
        expected = [
            [{"score": score, "label": "LABEL_0"}] for score in scores_of(reranker).tolist()
        ]
        for path in ("/predict", "/"):
            found = ranking.post(path, {"inputs": pairs}).json()
            for (one,) in found:
                one["score"] = float(np.float32(one["score"]))
            assert found == expected
        (one,) = ranking.post("/predict", {"inputs": pairs[0], "raw_scores": True}).json()
        assert np.float32(one["score"]) == scores_of(reranker, "Identity")[0]

    def test_predict_several_labels(self, three: Serving, rerankers: Path) -> None:
        pairs = [[QUERY, text] for text in TEXTS]
        with Reranker.load(rerankers / "three") as loaded:
            labels = loaded.labels
            for raw, activation in ((False, "Softmax"), (True, "Identity")):
                found = three.post("/predict", {"inputs": pairs, "raw_scores": raw}).json()
                for listed, row in zip(
                    found, loaded.predict(pairs, activation_fn=activation), strict=True
                ):
                    expected = {labels[at]: score for at, score in enumerate(row)}
                    assert {each["label"]: np.float32(each["score"]) for each in listed} == expected
                    assert [each["label"] for each in listed] == sorted(
                        labels, key=lambda label: -expected[label]
                    )

    def test_several_labels_have_no_order(self, three: Serving) -> None:
        answer = three.post("/rerank", {"query": QUERY, "texts": TEXTS})
        assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend")
        assert (
            "gives each pair 3 scores, which define no order; call /predict"
            in answer.json()["error"]
        )
        answer = three.post("/v2/rerank", {"query": QUERY, "documents": TEXTS})
        assert answer.status_code == 400

    def test_info(self, ranking: Serving, three: Serving) -> None:
        facts = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        assert ranking.get("/info").json()["model_type"] == {"reranker": facts}
        kind = three.get("/info").json()["model_type"]
        assert kind["classifier"]["id2label"] == {"0": "no", "1": "maybe", "2": "yes"}

    @pytest.mark.parametrize(
        ("path", "fields", "status", "kind", "message"),
        [
            ("/rerank", {}, 422, "Validation", "texts is null; expected a"),
            ("/rerank", {"texts": ["a"]}, 422, "Validation", "query is missing; expected a string"),
            ("/rerank", {"query": 1, "texts": ["a"]}, 422, "Validation", "query is a number"),
            ("/rerank", {"query": "a", "texts": []}, 400, "Empty", "texts is empty; send at least"),
            ("/rerank", {"query": "a", "texts": "b"}, 422, "Validation", "texts is a string;"),
            ("/rerank", {"query": "a", "texts": ["b", 1]}, 422, "Validation", "texts[1] is a"),
            ("/rerank", {"query": "a", "texts": ["b"] * 6}, 422, "Validation", "at most 5 at once"),
            (
                "/rerank",
                {"query": "a", "texts": ["b"], "raw_scores": "yes"},
                422,
                "Validation",
                "raw_scores is a string; expected true or false",
            ),
            ("/", {"query": "a", "texts": [None]}, 422, "Validation", "texts[0] is null"),
            ("/", {"inputs": ["a"]}, 422, "Validation", "inputs has 1 texts; a pair has two"),
            ("/predict", {}, 422, "Validation", "inputs is null; expected [text, text], or a"),
            ("/predict", {"inputs": "a"}, 422, "Validation", "this model scores pairs of texts"),
            ("/predict", {"inputs": []}, 400, "Empty", "inputs is empty; send at least one pair"),
            ("/predict", {"inputs": ["a", None]}, 422, "Validation", "inputs[1] is null"),
            ("/predict", {"inputs": [["a", "b"], ["c"]]}, 422, "Validation", "inputs[1] has 1 "),
            ("/predict", {"inputs": [["a", "b"], "c"]}, 422, "Validation", "inputs[1] is a string"),
            ("/predict", {"inputs": [["a", 1]]}, 422, "Validation", "inputs[0][1] is a number"),
            ("/predict", {"inputs": [["a", "b"]] * 6}, 422, "Validation", "at most 5 at once"),
            (
                "/predict",
                {"inputs": [["a", "b"], ["c", "d " * 99]], "truncate": False},
                422,
                "Validation",
                "inputs[1] is too long: it has ",
            ),
            (
                "/rerank",
                {"query": "a", "texts": ["b"], "prompt_name": "none"},
                422,
                "Validation",
                "this model has none",
            ),
        ],
    )
    def test_errors(
        self, ranking: Serving, path: str, fields: object, status: int, kind: str, message: str
    ) -> None:
        answer = ranking.post(path, fields)
        assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
        assert message in answer.json()["error"]
        assert answer.json().keys() == {"error", "error_type"}


class TestCohere:
    @pytest.mark.parametrize("path", COHERE)
    def test_answer(self, ranking: Serving, reranker: Reranker, path: str) -> None:
        fields = {"model": "any", "query": QUERY, "documents": TEXTS, "max_tokens_per_doc": 4096}
        answer = ranking.post(path, fields).json()
        scores = scores_of(reranker)
        order = best_first(scores)
        assert [each["index"] for each in answer["results"]] == order  # in the order given if equal
        found = np.array([each["relevance_score"] for each in answer["results"]], np.float32)
        assert found.tobytes() == scores[order].tobytes()
        assert [each.keys() for each in answer["results"]] == [{"index", "relevance_score"}] * 5
        tokens = sum(row.shape[-1] for row in reranker.tokenize_pairs([(QUERY, t) for t in TEXTS]))
        assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
        assert (answer["model"], len(answer["id"])) == ("ranks", 32)
        assert answer["meta"]["tokens"] == {"input_tokens": tokens}

    @pytest.mark.parametrize("path", COHERE)
    def test_documents(self, ranking: Serving, path: str) -> None:
        texts = [{"text": text, "title": "a"} for text in TEXTS[:2]] + TEXTS[2:]
        fields = {"query": QUERY, "documents": texts, "return_documents": True, "top_n": 3}
        results = ranking.post(path, fields).json()["results"]
        assert [each["document"] for each in results] == [
            {"text": TEXTS[each["index"]]} for each in results
        ]
        assert len(results) == 3

    def test_raw_scores(self, ranking: Serving, reranker: Reranker) -> None:
        fields = {"query": QUERY, "documents": TEXTS[:1], "raw_scores": True}
        (found,) = ranking.post("/rerank", fields).json()["results"]
        assert np.float32(found["relevance_score"]) == scores_of(reranker, "Identity")[0]

    @pytest.mark.parametrize("path", COHERE)
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"documents": []}, "documents is empty; send at least one text"),
            ({"documents": "a"}, "documents is a string; expected a list of strings"),
            ({"documents": None}, "documents is null; expected a string or a list of strings"),
            ({"documents": ["a", {"title": "b"}]}, "documents[1].text is null; expected a string"),
            ({"documents": ["a", 1]}, "documents[1] is a number; expected a string"),
            ({"documents": ["a"] * 6}, "documents has 6 texts; send at most 5 at once, or start"),
            ({"documents": ["a"], "query": None}, "query is missing; expected a string"),
            ({"documents": ["a"], "top_n": 0}, "top_n is 0; expected a whole number from 1"),
            ({"documents": ["a"], "top_n": 1.5}, "top_n is a number; expected a whole number"),
            (
                {"documents": ["a"], "rank_fields": ["title"]},
                "rank_fields is not supported; send each",
            ),
            ({"documents": ["a"], "return_documents": 1}, "return_documents is a number; expected"),
        ],
    )
    def test_errors(self, ranking: Serving, path: str, fields: Any, message: str) -> None:
        answer = ranking.post(path, {"query": QUERY, **fields})
        assert answer.status_code == 400
        assert answer.json().keys() == {"message", "detail"}
        assert message in answer.json()["message"]
        assert answer.json()["message"] == answer.json()["detail"]


class TestWeaviate:
    def test_scores_are_the_models_own(self, ranking: Serving, reranker: Reranker) -> None:
        fields = {"query": QUERY, "documents": TEXTS, "property": ""}
        answer = ranking.post("/rerank", fields).json()
        assert answer.keys() == {"query", "scores"}
        assert [each["document"] for each in answer["scores"]] == TEXTS
        found = np.array([each["score"] for each in answer["scores"]], np.float32)
        assert found.tobytes() == scores_of(reranker, None).tobytes()

    def test_one_property(self, ranking: Serving, reranker: Reranker) -> None:
        answer = ranking.post("/rerank", {"query": QUERY, "property": TEXTS[0]}).json()
        assert answer.keys() == {"query", "property", "score"}
        assert np.float32(answer["score"]) == scores_of(reranker, None)[0]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({}, "property is missing"),
            ({"documents": []}, "documents is empty"),
            ({"documents": ["a"], "query": None}, "query is missing"),
            ({"documents": ["a", {"text": "b"}]}, "documents[1] is an object; expected a string"),
        ],
    )
    def test_errors(self, ranking: Serving, fields: Any, message: str) -> None:
        answer = ranking.post("/rerank", {"query": QUERY, "property": None, **fields})
        assert answer.status_code == (400 if "empty" in message else 422)
        assert answer.json().keys() == {"error"}
        assert message in answer.json()["error"]

    def test_probes(self, ranking: Serving) -> None:
        assert ranking.get("/.well-known/ready").status_code == 204
        assert "reranker" in ranking.get("/meta").json()["model_type"]


class TestOtherTasks:
    @pytest.mark.parametrize(
        "path", ["/v1/embeddings", "/embeddings", "/embed", "/similarity", "/vectors", "/embed_all"]
    )
    def test_of_a_reranker(self, ranking: Serving, path: str) -> None:
        answer = ranking.post(path, {"inputs": "a", "input": "a", "text": "a"})
        assert answer.status_code == (400 if "embeddings" in path else 424)
        if path != "/embed_all":
            told = "ranks scores pairs of texts; it does not serve this route. Call /rerank, /v1/"
            assert told in answer.text
            assert "or start a server with the bundle of an embedding model" in answer.text

    @pytest.mark.parametrize("path", ["/rerank", "/predict", "/v1/rerank", "/v2/rerank"])
    def test_of_an_embedding_model(self, embedding: Serving, path: str) -> None:
        answer = embedding.post(path, {"query": "a", "texts": ["b"]})
        assert answer.status_code == (400 if "/v" in path else 424)
        assert (
            "tiny gives one vector per text; it does not serve this route. Call /v1/" in answer.text
        )
        assert "or start a server with the bundle of a reranker" in answer.text
        if "/v" not in path:
            assert answer.json()["error_type"] == "Backend"


class TestEveryRoute:
    @pytest.mark.parametrize("path", POSTS)
    @pytest.mark.parametrize("body", [b"", b"{", b"[" * 20_000, b'{"query": NaN}', b'["a"]'])
    def test_no_json(self, ranking: Serving, path: str, body: bytes) -> None:
        answer = ranking.http.post(ranking.url + path, content=body)
        assert answer.status_code == 400
        assert "the body is not" in answer.text

    def test_too_long_a_query(self, ranking: Serving) -> None:
        """A body within its limit whose query is long is not multiplied by its documents."""
        fields = {"query": "a" * 20_000, "texts": ["b"] * 3}
        answer = ranking.post("/rerank", fields)
        assert answer.status_code == 413
        assert "query has 20,000 characters, and texts 3 texts" in answer.json()["error"]
        documents = {"query": "a" * 20_000, "documents": ["b"] * 3}
        assert ranking.post("/v2/rerank", documents).status_code == 413
        assert ranking.post("/rerank", {**fields, "texts": ["b"] * 2}).status_code == 200

    def test_too_large_a_body(self, ranking: Serving) -> None:
        answer = ranking.post("/v2/rerank", {"query": "a", "documents": ["b" * 60_000]})
        assert answer.status_code == 413
        assert answer.json().keys() == {"message", "detail"}

    def test_half_an_emoji(self, ranking: Serving, reranker: Reranker) -> None:
        body = b'{"query": "a \\ud83d", "texts": ["b \\ud83d"], "return_text": true}'
        (found,) = ranking.http.post(ranking.url + "/rerank", content=body).json()
        assert found["text"] == "b \ufffd"
        expected = reranker.predict(("a \ufffd", "b \ufffd"), activation_fn="Sigmoid")
        assert np.float32(found["score"]) == expected
        body = body.replace(b"texts", b"documents").replace(b"return_text", b"return_documents")
        (result,) = ranking.http.post(ranking.url + "/v1/rerank", content=body).json()["results"]
        assert result["document"] == {"text": "b \ufffd"}
        body = body.replace(b"}", b', "property": ""}')
        answer = ranking.http.post(ranking.url + "/rerank", content=body).json()
        assert (answer["query"], answer["scores"][0]["document"]) == ("a \ufffd", "b \ufffd")

    def test_metrics_and_stats(self, ranking: Serving) -> None:
        texts = [f"a text that is ranked once, {number}" for number in range(3)]
        before = ranking.get("/stats").json()["texts"]
        ranking.post("/rerank", {"query": QUERY, "texts": texts})
        assert ranking.get("/stats").json()["texts"] == before + 3
        route = 'embedrt_requests_total{route="/rerank",status="200"}'
        assert route in ranking.get("/metrics").text
        assert ranking.get("/health").status_code == 200

    def test_card(self, ranking: Serving) -> None:
        card = ranking.get("/card").json()
        assert (card["task"], card["labels"]) == ("reranking", ["LABEL_0"])
