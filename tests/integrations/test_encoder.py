"""Tests of what the adapters share, and of their errors without the framework."""

from __future__ import annotations

import ast
import asyncio
import gc
import os
import subprocess
import sys
import tomllib
import weakref
from pathlib import Path
from typing import Any

import pytest

from children import run
from embedrt import Embedder
from embedrt.errors import BundleCorruptError
from embedrt.integrations.encoder import Encoder, digest
from tiny_bundle import make_tiny

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    file.stem
    for file in (ROOT / "runtime" / "embedrt" / "integrations").glob("[a-z]*.py")
    if file.stem not in ("encoder", "extras")
)
TEXTS = ["one", "two texts"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: list[str] = list(PROJECT["optional-dependencies"])


def extra_of(module: str) -> str:
    """The extra of a framework, which may have several modules: ``x`` and ``x_reranker``."""
    name = module.replace("_", "-")
    return next(extra for extra in EXTRAS if name == extra or name.startswith(f"{extra}-"))


def test_sides(bundle: Path) -> None:
    encoder = Encoder.load(bundle)
    with Embedder.load(bundle) as plain:
        queries, documents = plain.encode_query(TEXTS), plain.encode_document(TEXTS)
        other = plain.encode(TEXTS, prompt="x: ").tolist()
    assert encoder.queries(TEXTS) == asyncio.run(encoder.aqueries(TEXTS)) == queries.tolist()
    assert encoder.documents(TEXTS) == asyncio.run(encoder.adocuments(TEXTS)) == documents.tolist()
    assert encoder.queries(TEXTS, "x: ") == encoder.documents(TEXTS, "x: ") == other
    assert asyncio.run(encoder.aqueries(TEXTS, "x: ")) == other
    assert asyncio.run(encoder.adocuments(TEXTS, "x: ")) == other
    assert encoder.queries([]) == []
    if "prompted" in str(bundle):
        assert queries.tolist() != documents.tolist()


def test_no_list_of_texts(minilm: Path) -> None:
    encoder = Encoder.load(minilm)
    for embed in (encoder.queries, encoder.documents):
        with pytest.raises(TypeError, match=r"one str was passed; expected a list of texts"):
            embed("a text")
    for aembed in (encoder.aqueries, encoder.adocuments):
        with pytest.raises(TypeError, match=r"one str was passed; expected a list of texts"):
            asyncio.run(aembed("a text"))
    unordered: Any = {"a", "b"}
    with pytest.raises(TypeError, match="set"):
        encoder.documents(unordered)


def test_one_embedder_for_a_bundle_and_its_options(tmp_path: Path) -> None:
    bundle = make_tiny(tmp_path / "tiny")  # a framework may still hold the others
    first = Encoder.load(bundle).embedder
    assert Encoder.load(str(bundle), {}).embedder is first
    assert Encoder.load(bundle, {"threads": 1}).embedder is not first
    assert Encoder.load(make_tiny(tmp_path / "other")).embedder is not first
    alive = weakref.ref(first)
    del first
    gc.collect()
    assert alive() is None


def test_no_embedder_that_is_closed(tmp_path: Path) -> None:
    bundle = make_tiny(tmp_path / "tiny")
    first = Encoder.load(bundle)
    first.embedder.close()
    second = Encoder.load(bundle)
    assert second.documents(["w1"])
    assert Encoder.load(bundle).embedder is second.embedder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_loads(tmp_path: Path) -> None:
    program = """
from embedrt.integrations.encoder import _SHARED, Encoder

def fails():
    return len(Encoder.load(sys.argv[1]).documents(["w1"])) - 1


shared = Encoder.load(sys.argv[1])
with shared.embedder._engine.core():  # which the child finds in use
    with _SHARED._lock:
        statuses = run_children(fails)
    print(statuses, fails())
"""
    assert run(program, make_tiny(tmp_path / "tiny")) == "[0] 0\n"


def test_an_embedder_that_is_loaded(embedder: Embedder) -> None:
    assert Encoder.load(embedder).embedder is embedder
    with pytest.raises(TypeError, match="threads"):
        Encoder.load(embedder, {"threads": 1})


def test_options_are_those_of_load(minilm: Path) -> None:
    with pytest.raises(TypeError, match="thread"):
        Encoder.load(minilm, {"thread": 1})
    with pytest.raises(ValueError, match="threads=0"):
        Encoder.load(minilm, {"threads": 0})


def test_verify_is_an_option(tmp_path: Path) -> None:
    bundle = make_tiny(tmp_path / "tiny")
    assert Encoder.load(bundle, {"verify": "sha256"}).embedder is Encoder.load(bundle).embedder
    graph = bundle / "model.onnx"
    graph.write_bytes(graph.read_bytes()[::-1])
    with pytest.raises(BundleCorruptError, match="sha256"):
        Encoder.load(bundle, {"verify": "sha256"})


def test_a_digest_names_the_content(minilm: Path, prompted: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(minilm)
    assert digest(tmp_path / "link") == digest(minilm)
    assert digest(prompted) != digest(minilm)


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] not in ("embedrt", "numpy", "onnxruntime", "tokenizers"):
            if name.partition(".")[0] not in sys.stdlib_module_names:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


@pytest.mark.parametrize("name", MODULES)
def test_the_error_names_the_extra_of_a_missing_framework(name: str) -> None:
    imported = f"import embedrt\n{WITHOUT}\nimport embedrt.integrations.{name}"
    process = subprocess.run(
        [sys.executable, "-c", imported],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    last = process.stderr.splitlines()[-1]
    extra = extra_of(name)
    module = f"embedrt.integrations.{extra.replace('-', '_')}"
    assert last.startswith(f"embedrt.errors.MissingExtraError: {module} needs ")
    assert last.endswith(f": pip install 'embedrt[{extra}]'")


def test_each_module_has_its_extra() -> None:
    assert len({extra_of(name) for name in MODULES}) == 8


@pytest.mark.parametrize("name", MODULES)
def test_an_adapter_is_short(name: str) -> None:
    """An adapter has few lines of code; shared code belongs in `encoder`."""
    file = ROOT / "runtime" / "embedrt" / "integrations" / f"{name}.py"
    source = file.read_text(encoding="utf-8")
    texts = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = enumerate(source.splitlines(), start=1)
    assert sum(bool(line.strip()) and number not in texts for number, line in lines) <= 80
