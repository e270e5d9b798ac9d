"""Tests of the fields, answers and errors of every route."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder
from serving import Serving, serving
from tiny_bundle import make_tiny

PROMPTS = {"query": "w3 ", "passage": "w4 ", "other": "w5 "}
POSTS = ("/v1/embeddings", "/embeddings", "/embed", "/", "/similarity", "/vectors", "/tokenize")


def vector_of(*words: int) -> list[float]:
    """Return the tiny model's embedding: the number of occurrences of each word."""
    return [float(words.count(word)) for word in range(10)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of word counts, not normalized, with prompts and a default prompt."""
    folder = tmp_path_factory.mktemp("tiny")
    bundle = make_tiny(folder / "tiny", prompts=PROMPTS, default_prompt_name="other")
    with serving(bundle, folder / "log", "--served-name", "counts", "--max-texts", "5") as server:
        yield server


class TestOpenAI:
    def test_answer(self, tiny: Serving) -> None:
        answer = tiny.post("/embeddings", {"input": ["w1 w1", "w2"], "model": "any", "user": "me"})
        assert answer.headers["content-type"] == "application/json"
        assert len(answer.headers["x-request-id"]) == 16
        assert answer.json() == {
            "object": "list",
            "data": [
                {"object": "embedding", "index": 0, "embedding": vector_of(1, 1, 5)},
                {"object": "embedding", "index": 1, "embedding": vector_of(2, 5)},
            ],
            "model": "counts",
            "usage": {"prompt_tokens": 5, "total_tokens": 5},
        }

    def test_base64(self, tiny: Serving) -> None:
        answer = tiny.post("/v1/embeddings", {"input": "w1", "encoding_format": "base64"})
        raw = base64.b64decode(answer.json()["data"][0]["embedding"])
        assert np.frombuffer(raw, "<f4").tolist() == vector_of(1, 5)

    @pytest.mark.parametrize(
        ("fields", "prompt"),
        [
            ({}, 5),
            ({"input_type": "query"}, 3),
            ({"input_type": "search_query"}, 3),
            ({"input_type": "passage"}, 4),
            ({"input_type": "document"}, 4),
            ({"task": "retrieval.query"}, 3),
            ({"task": "retrieval.passage"}, 4),
            ({"prompt_name": "query"}, 3),
            ({"prompt_name": None, "task": None}, 5),
        ],
    )
    def test_prompts(self, tiny: Serving, fields: dict[str, Any], prompt: int) -> None:
        answer = tiny.post("/v1/embeddings", {"input": "w1", **fields})
        assert answer.json()["data"][0]["embedding"] == vector_of(1, prompt)

    def test_a_model_that_is_not_normalized_gives_its_own_vectors(self, tiny: Serving) -> None:
        answer = tiny.post("/v1/embeddings", {"input": "w1 w1 w2", "dimensions": 3})
        assert answer.json()["data"][0]["embedding"] == [0, 2, 1]

    @pytest.mark.parametrize(
        ("fields", "param", "message"),
        [
            ({}, "input", "input is null; expected a string or a list of strings"),
            ({"input": []}, "input", "input is empty; send at least one text"),
            ({"input": ["a", None]}, "input[1]", "input[1] is null; expected a string"),
            ({"input": ["a", ["b"]]}, "input[1]", "input[1] is a list; expected a string"),
            ({"input": "a", "dimensions": 0}, "dimensions", "dimensions is 0; expected 1 to 10,"),
            ({"input": "a", "dimensions": True}, "dimensions", "dimensions is a boolean; expected"),
            ({"input": "a", "dimensions": 1e300}, "dimensions", "dimensions is a number; expected"),
            (
                {"input": "a", "encoding_format": "hex"},
                "encoding_format",
                "encoding_format is 'hex'; expected one of float, base64",
            ),
            ({"input": "a", "input_type": "clustering"}, "input_type", "expected one of query,"),
            ({"input": "a", "prompt_name": "none"}, "prompt_name", "this model has ['other',"),
            ({"input": ["a"] * 6}, "input", "input has 6 texts; send at most 5 at once, or start"),
            ({"input": [1, 2]}, "input", "OpenAIEmbeddings(check_embedding_ctx_length=False)"),
            ({"input": [[1], "a"]}, "input", "or start the server with --tiktoken FILE"),
        ],
    )
    def test_errors(self, tiny: Serving, fields: dict[str, Any], param: str, message: str) -> None:
        answer = tiny.post("/v1/embeddings", fields)
        error = answer.json()["error"]
        assert answer.status_code == 400
        assert message in error["message"]
        assert (error["param"], error["type"]) == (param, "invalid_request_error")
        assert error.keys() == {"message", "type", "param", "code"}


class TestTEI:
    def test_embed_is_normalized_unless_told_otherwise(self, tiny: Serving) -> None:
        assert tiny.post("/embed", {"inputs": "w5 w5"}).json() == [[0, 0, 0, 0, 0, 1, 0, 0, 0, 0]]
        plain = {"inputs": ["w5 w5"], "normalize": False}
        assert tiny.post("/embed", plain).json() == [vector_of(5, 5, 5)]
        for path in ("/", "/invocations"):
            assert tiny.post(path, plain).json() == [vector_of(5, 5, 5)]

    @pytest.mark.parametrize("name", [None, "query", "passage"])
    def test_prompt_name(self, tiny: Serving, name: str | None) -> None:
        fields = {"inputs": "w1", "normalize": False, "prompt_name": name}
        prompt = {None: 5, "query": 3, "passage": 4}[name]
        assert tiny.post("/embed", fields).json() == [vector_of(1, prompt)]

    @pytest.mark.parametrize("side", ["Right", "right", "Left", "left", None])
    def test_truncation_direction(self, tiny: Serving, side: str | None) -> None:
        """The model's maximum is 8 tokens, one of them the prompt's."""
        fields = {"inputs": "w1 w2 w2 w2 w2 w2 w2 w2 w3", "normalize": False}
        answer = tiny.post("/embed", {**fields, "truncation_direction": side}).json()
        left = side in ("Left", "left")
        assert answer == [vector_of(*[2] * 7, 3) if left else vector_of(5, 1, *[2] * 6)]

    def test_truncate_false(self, tiny: Serving) -> None:
        fields = {"inputs": ["w1", "w1 " * 8], "truncate": False}
        answer = tiny.post("/embed", fields)
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("inputs[1] is too long: it has 9 tokens, and")
        assert tiny.post("/embed", {"inputs": "w1 " * 7, "truncate": False}).status_code == 200

    def test_similarity(self, tiny: Serving) -> None:
        inputs = {"source_sentence": "w5", "sentences": ["w5 w5 w5", "w1"]}
        for path in ("/similarity", "/"):
            found = tiny.post(path, {"inputs": inputs, "parameters": {}}).json()
            assert found == pytest.approx([1, 2 / np.sqrt(8)])
        parameters = {"prompt_name": "query"}
        found = tiny.post("/similarity", {"inputs": inputs, "parameters": parameters}).json()
        assert found == pytest.approx([4 / np.sqrt(20), 0.5])

    @pytest.mark.parametrize("path", ["/embed_all", "/embed_sparse", "/rerank", "/predict"])
    def test_other_tasks(self, tiny: Serving, path: str) -> None:
        answer = tiny.post(path, {"inputs": "w1"})
        assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend")

    @pytest.mark.parametrize(
        ("path", "fields", "status", "kind", "message"),
        [
            ("/embed", {}, 422, "Validation", "inputs is null; expected a string"),
            ("/embed", {"inputs": []}, 400, "Empty", "inputs is empty"),
            ("/embed", {"inputs": ["a", 1.5]}, 422, "Validation", "inputs[1] is a number"),
            ("/embed", {"inputs": [1, 2]}, 422, "Validation", "inputs holds token ids"),
            ("/embed", {"inputs": "a", "normalize": "yes"}, 422, "Validation", "true or false"),
            ("/embed", {"inputs": "a", "truncation_direction": "Up"}, 422, "Validation", "'Up'"),
            ("/embed", {"inputs": ["a"] * 6}, 422, "Validation", "at most 5 at once"),
            ("/", {"inputs": {"sentences": []}}, 422, "Validation", "source_sentence is missing"),
            ("/similarity", {"inputs": "a"}, 422, "Validation", "inputs is a string; expected an"),
            (
                "/similarity",
                {"inputs": {"source_sentence": "a", "sentences": ["b", 3]}},
                422,
                "Validation",
                "inputs.sentences[1] is a number",
            ),
            (
                "/similarity",
                {"inputs": {"source_sentence": 3, "sentences": ["b"]}},
                422,
                "Validation",
                "inputs.source_sentence is a number",
            ),
            (
                "/similarity",
                {
                    "inputs": {"source_sentence": "w1 " * 9, "sentences": ["b"]},
                    "parameters": {"truncate": False},
                },
                422,
                "Validation",
                "inputs.source_sentence is too long",
            ),
            ("/tokenize", {"inputs": [None]}, 422, "Validation", "inputs[0] is null"),
            ("/tokenize", {"inputs": "a" * 2001}, 422, "Validation", "send at most 2,000 at once"),
            ("/decode", {"ids": [1, -1]}, 422, "Validation", "ids[1] is not a token id"),
            (
                "/decode",
                {"ids": [1, 10]},
                422,
                "Validation",
                "ids[1] is 10, which is not a token id",
            ),
            ("/decode", {"ids": []}, 422, "Validation", "ids is an empty list"),
            ("/decode", {"ids": [[1], "a"]}, 422, "Validation", "ids[1] is a string"),
            ("/decode", {"ids": [[1], [1, -1]]}, 422, "Validation", "ids[1][1] is not a token id"),
            ("/decode", {"ids": [[1], [1, 10]]}, 422, "Validation", "ids[1][1] is 10, which is no"),
        ],
    )
    def test_errors(
        self, tiny: Serving, path: str, fields: object, status: int, kind: str, message: str
    ) -> None:
        answer = tiny.post(path, fields)
        assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
        assert message in answer.json()["error"]
        assert answer.json().keys() == {"error", "error_type"}

    def test_tokenize_and_decode(self, server: Serving, embedder: Embedder) -> None:
        texts = ["Hello, wörld 🦙!", ""]
        found = server.post("/tokenize", {"inputs": texts}).json()
        expected = [ids.tolist() for ids in embedder.tokenize(texts)]
        assert [[token["id"] for token in tokens] for tokens in found] == expected
        first, hello, *_, last = found[0]
        assert first == {"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None}
        assert hello == {"id": 7592, "text": "Hello", "special": False, "start": 0, "stop": 5}
        assert last["text"] == "[SEP]"
        bare = server.post("/tokenize", {"inputs": texts[0], "add_special_tokens": False}).json()
        assert bare == [found[0][1:-1]]
        assert server.post("/decode", {"ids": expected[0]}).json() == ["hello, world!"]
        kept = server.post("/decode", {"ids": expected, "skip_special_tokens": False}).json()
        assert kept == ["[CLS] hello, world [UNK]! [SEP]", "[CLS] [SEP]"]

    def test_info(self, tiny: Serving) -> None:
        facts = tiny.get("/info").json()
        assert facts["model_id"] == "someone/tiny"
        assert facts["served_model_name"] == "counts"
        assert facts["model_type"] == {"embedding": {"pooling": "mean+max"}}
        assert (facts["max_input_length"], facts["max_client_batch_size"]) == (8, 5)
        assert facts["model_dtype"] == "float32"


class TestWeaviate:
    @pytest.mark.parametrize(("task", "prompt"), [("query", 3), ("passage", 4), (None, 5)])
    def test_one(self, tiny: Serving, task: str | None, prompt: int) -> None:
        """The request has the fields that Weaviate's Go client always sends."""
        config = {} if task is None else {"task_type": task}
        fields = {"text": "w1", "dims": 0, "vector": None, "error": "", "config": config}
        found = tiny.post("/vectors", fields).json()
        assert found == {"text": "w1", "vector": vector_of(1, prompt), "dim": 10, "dims": 10}

    def test_default_pooling(self, tiny: Serving) -> None:
        """Weaviate names it in every request, whatever the pooling of the model is."""
        fields = {"text": "w1", "config": {"pooling_strategy": "masked_mean"}}
        assert tiny.post("/vectors", fields).json()["vector"] == vector_of(1, 5)

    def test_several(self, tiny: Serving) -> None:
        fields = {"texts": ["w1", "w2"], "config": {"task_type": "passage", "dimensions": 3}}
        found = tiny.post("/vectors/", fields).json()
        assert found == {"vectors": [[0, 1, 0], [0, 0, 1]], "dims": 3}

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({}, "text is missing"),
            ({"text": 3}, "text is a number; expected a string"),
            ({"texts": ["a", None]}, "texts[1] is null; expected a string"),
            ({"text": "a", "config": []}, "config is a list; expected an object"),
            ({"text": "a", "config": {"task_type": "x"}}, "config.task_type is 'x'; expected one"),
            ({"text": "a", "config": {"dimensions": 0}}, "config.dimensions is 0; expected 1 to"),
            ({"text": "a", "config": {"pooling_strategy": "cls"}}, "this model's is mean+max"),
        ],
    )
    def test_errors(self, tiny: Serving, fields: object, message: str) -> None:
        answer = tiny.post("/vectors", fields)
        assert answer.status_code == 422
        assert message in answer.json()["error"]

    def test_probes(self, tiny: Serving) -> None:
        for path in ("/.well-known/live", "/.well-known/ready"):
            answer = tiny.get(path)
            assert (answer.status_code, answer.content) == (204, b"")
        assert tiny.get("/meta").json()["model_id"] == "someone/tiny"


class TestOwn:
    @pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/ping"])
    def test_probes(self, tiny: Serving, path: str) -> None:
        answer = tiny.get(path)
        assert (answer.status_code, answer.content) == (200, b"")
        head = tiny.http.head(tiny.url + path)
        assert (head.status_code, head.content) == (200, b"")

    def test_metrics_count_requests_and_the_engines_work(self, server: Serving) -> None:
        def value(name: str) -> float:
            lines = server.get("/metrics").text.splitlines()
            return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

        route = 'embedrt_requests_total{route="/embed",status='
        names = ["embedrt_cache_hits_total", "embedrt_coalesced_total", "embedrt_texts_total"]
        before = [value(name) for name in (f'{route}"200"', f'{route}"422"', *names)]
        text = "a text of these metrics alone"
        server.post("/embed", {"inputs": [text, text]})  # the second is not computed
        server.post("/embed", {"inputs": text})  # from the cache
        server.post("/embed", {"inputs": 3})
        after = [value(name) for name in (f'{route}"200"', f'{route}"422"', *names)]
        assert np.subtract(after, before).tolist() == [2, 1, 1, 1, 3]
        assert value("embedrt_waiting_tokens ") == 0

    def test_stats(self, server: Serving) -> None:
        server.post("/embed", {"inputs": "a text"})
        stats = server.get("/stats").json()
        assert stats["texts"] >= 1
        assert 0 < stats["latency_ms"]["p50"] <= stats["latency_ms"]["p99"]

    def test_card(self, server: Serving, embedder: Embedder) -> None:
        card = server.get("/card").json()
        assert card["dimension"] == embedder.dimension
        assert card["license"] == "apache-2.0"


class TestEveryDialect:
    @pytest.mark.parametrize("path", POSTS)
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", "the body is not JSON"),
            (b"{", "the body is not JSON"),
            (b"[" * 100_000, "the body is not JSON"),
            (b'{"input": NaN}', "the body is not JSON"),
            (b'{"input": "\\ud83d", "x": NaN}', "the body is not JSON: NaN is not valid JSON"),
            (b'{"inputs": "\\ud83d' + b"[" * 100_000, "the body is not JSON"),
            (b"\xff\xfe{\x00}\x00", "the body is not JSON"),
            (b'["a"]', "the body is not a JSON object"),
        ],
        ids=range(8),
    )
    def test_invalid_json(self, tiny: Serving, path: str, body: bytes, message: str) -> None:
        answer = tiny.http.post(tiny.url + path, content=body)
        error = answer.json()["error"]
        assert answer.status_code == 400
        assert message in (error if isinstance(error, str) else error["message"])

    @pytest.mark.parametrize("path", POSTS)
    def test_compressed(self, tiny: Serving, path: str) -> None:
        headers = {"content-encoding": "gzip"}
        answer = tiny.http.post(tiny.url + path, content=b"\x1f\x8b\x08", headers=headers)
        assert answer.status_code == 415
        assert "compressed" in answer.text

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [("/v1/embeddings", "POST"), ("/info", "GET"), ("/v1/models/counts", "GET")],
    )
    def test_method(self, tiny: Serving, path: str, allowed: str) -> None:
        answer = tiny.http.put(tiny.url + path)
        assert answer.status_code == 405
        assert answer.headers["allow"].startswith(allowed)
        assert f"send {allowed}" in answer.text

    def test_unknown_route(self, tiny: Serving) -> None:
        assert tiny.get("/v1/chat/completions").json()["error"]["type"] == "invalid_request_error"
        assert tiny.get("/nothing").json()["error_type"] == "Validation"
        assert tiny.get("/nothing").status_code == tiny.get("/v1/nothing").status_code == 404

    def test_unpaired_surrogate(self, server: Serving, embedder: Embedder) -> None:
        """JavaScript can split surrogate pairs; the library's rule for them holds for HTTP, too."""
        body = b'{"inputs": ["a \\ud83d", "b \\ud83e\\udd99"], "text": "a \\ud83d"}'
        found = server.http.post(server.url + "/embed", content=body).json()
        expected = embedder.encode(["a \ufffd", "b 🦙"])
        assert np.array(found, np.float32).tobytes() == expected.tobytes()
        echoed = server.http.post(server.url + "/vectors", content=body).json()
        assert echoed["text"] == "a \ufffd"
        assert np.array(echoed["vector"], np.float32).tobytes() == expected[0].tobytes()
