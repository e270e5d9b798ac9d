"""Tests that code written for a SentenceTransformer runs with one changed line.

The codes do what the examples in the documentation of sentence-transformers do: similarities of
texts, search with queries and documents, prompts, ranked hits, quantized vectors. Each runs twice,
with the original as `model` and with the bundle, and must leave the same values.
"""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from comparison import TOLERANCE, export_small, original
from embedrt import Embedder

TEXTS = """
sentences = ["It rains again", "The sky is gray", "She took the train"]
corpus = [
    "A man eats a meal", "A man eats bread", "A girl carries a baby", "A man rides a horse",
    "A woman plays the violin", "Two men push a cart", "A monkey plays drums",
]
queries = ["A man eats pasta", "Someone plays music"]
"""

CODES = {
    "similarities": """
        embeddings = model.encode(sentences)
        shape = embeddings.shape
        similarities = model.similarity(embeddings, embeddings)
        pairs = model.similarity_pairwise(embeddings[:2], embeddings[1:])
        others = model.similarity(model.encode(corpus), embeddings)
        best = max((float(others[i][j]), i, j) for i in range(len(corpus)) for j in range(3))
    """,
    "one text": """
        embedding = model.encode(sentences[0])
        scores = model.similarity(embedding, model.encode(sentences))[0]
        width = len(embedding), model.get_max_seq_length(), model.max_seq_length
    """,
    "queries and documents": """
        corpus_embeddings = model.encode_document(corpus)
        found = []
        for query in queries:
            scores = model.similarity(model.encode_query(query), corpus_embeddings)[0]
            order = np.argsort(-np.asarray(scores))[: min(5, len(corpus))]
            found += [(query, corpus[int(i)], float(scores[int(i)])) for i in order]
    """,
    "semantic search of util": """
        from sentence_transformers import util

        query_embeddings = model.encode_query(queries, normalize_embeddings=True)
        corpus_embeddings = model.encode_document(corpus, normalize_embeddings=True)
        hits = util.semantic_search(query_embeddings, corpus_embeddings, top_k=3)
        found = [(corpus[hit["corpus_id"]], hit["score"]) for some in hits for hit in some]
        cosine = util.cos_sim(query_embeddings, corpus_embeddings)
    """,
    "prompts": """
        text = "How is bread made?"
        by_name = model.encode(text, prompt_name="query")
        by_prompt = model.encode(text, prompt=model.prompts["query"])
        plain = model.encode([text, text], batch_size=1, show_progress_bar=False)
        names = dict(model.prompts), model.default_prompt_name, model.similarity_fn_name
    """,
    "keywords": """
        embeddings = model.encode(
            sentences, batch_size=2, convert_to_numpy=True, convert_to_tensor=False,
            device="cpu", output_value="sentence_embedding", truncate_dim=16,
            normalize_embeddings=True, precision="float32",
        )
        empty = model.encode(sentences, pool=None, chunk_size=None)
    """,
    "quantized": """
        binary = model.encode(corpus, precision="binary")
        dtype = str(binary.dtype)
    """,
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[SentenceTransformer, Embedder]:
    """A small model with prompts, and its bundle."""
    parent: Path = tmp_path_factory.mktemp("drop-in")
    prompts = {"query": "query: ", "document": "passage: "}
    pair = export_small(parent, "bert", prompts=prompts)
    return original(pair.folder), Embedder.load(pair.bundle)


def run(code: str, model: object) -> dict[str, Any]:
    """Run code with `model`; return the values that it leaves."""
    names: dict[str, Any] = {"model": model, "np": np}
    exec(TEXTS + textwrap.dedent(code), names)
    hidden = ("model", "np", "util", "SentenceTransformer", "__builtins__")
    return {name: value for name, value in names.items() if name not in hidden}


def assert_same(found: Any, expected: Any) -> None:
    """Compare values, numbers to the tolerance of a bundle, at any depth."""
    if isinstance(expected, (str, type(None))):
        assert found == expected
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(found[name], value)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        one, other = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= TOLERANCE


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_the_same_values(models: tuple[SentenceTransformer, Embedder], code: str) -> None:
    theirs, ours = models
    expected = run(code, theirs)
    found = run(code, ours)
    assert expected.keys() > {"sentences", "corpus", "queries"}
    assert_same(found, expected)


def test_the_example_in_the_docstring(models: tuple[SentenceTransformer, Embedder]) -> None:
    """The one of the installed version, whose line that loads the model is changed."""
    docstring = inspect.getdoc(SentenceTransformer) or ""
    example = textwrap.dedent(docstring.partition("::\n")[2])
    lines = [line for line in example.splitlines() if "SentenceTransformer(" not in line]
    assert len(example.splitlines()) - len(lines) == 1
    theirs, ours = models
    code = "\n".join(lines)
    expected, found = run(code, theirs), run(code, ours)
    assert found["embeddings"].shape == (3, 32)
    for name in ("embeddings", "similarities"):
        assert_same(found[name], expected[name])
