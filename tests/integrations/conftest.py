"""Each test file covers one framework and is collected only where the framework is installed.

`make test-integrations` installs all of them and names each file, so that none is skipped.
"""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import pytest

from embedrt import Bundle
from embedrt.bundle.reader import FILES, MANIFEST
from tiny_bundle import make_tiny_reranker

FRAMEWORKS = {
    "chroma": "chromadb",
    "chroma_sparse": "chromadb",
    "dspy": "dspy",
    "haystack": "haystack",
    "haystack_sparse": "haystack",
    "haystack_reranker": "haystack",
    "lancedb": "lancedb",
    "langchain": "langchain_tests",
    "langchain_reranker": "langchain_core",
    "llama_index": "llama_index",
    "llama_index_reranker": "llama_index",
    "mteb": "mteb",
    "mteb_reranker": "mteb",
    "sklearn": "sklearn",
}
collect_ignore = [
    f"test_{name}.py" for name, module in FRAMEWORKS.items() if find_spec(module) is None
]

PROMPTS = {"query": "claim: ", "passage": "abstract: ", "other": "another: "}


@pytest.fixture(scope="session")
def prompted(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM with a prompt for queries, one for documents, and a default prompt for neither."""
    folder = tmp_path_factory.mktemp("prompted")
    for name in FILES:
        (folder / name).symlink_to(minilm / name)
    manifest = dataclasses.replace(
        Bundle.open(minilm).manifest, prompts=PROMPTS, default_prompt_name="other"
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return folder


@pytest.fixture(params=["plain", "prompted"])
def bundle(request: pytest.FixtureRequest, minilm: Path, prompted: Path) -> Path:
    """MiniLM without prompts, then with prompts."""
    return minilm if request.param == "plain" else prompted


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    """A tiny reranker, whose score is the sum of the numbers of a document's words."""
    return make_tiny_reranker(tmp_path / "ranks")
