"""Tests of the package's public names and imports, and that it does not use the network."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import embedrt
from embedrt import errors

FORBIDDEN = (
    "torch",
    "transformers",
    "sentence_transformers",
    "optimum",
    "onnx",
    "onnxscript",
    "huggingface_hub",
    "tqdm",
    "scipy",
    "embedrt.cli",
    "embedrt.hub",
    "embedrt.integrations",
    "embedrt_export",
)
IMPORT_WALL = f"""
import sys
import embedrt
broken = [name for name in {FORBIDDEN} if name in sys.modules]
assert not broken, f"imported: {{broken}}"
"""

NO_NETWORK = """
import socket, sys

def refuse(*arguments, **keywords):
    raise AssertionError("opened a connection")

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.create_connection = socket.getaddrinfo = socket.socket.__init__ = refuse
"""
ENCODE = """
from embedrt import Embedder

with Embedder.load(sys.argv[1], verify="sha256") as embedder:
    print(embedder.encode(["one", "two texts"]).shape, embedder.encode("three").shape)
"""
ENVIRONMENT = {
    name: setting for name, setting in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"
}


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process, without the tests' settings."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
        encoding="utf-8",
    )


def test_public_names() -> None:
    expected = [
        "Bundle",
        "Embedder",
        "Manifest",
        "MultiVectorEncoder",
        "Reranker",
        "SparseEncoder",
        "quantize_embeddings",
        "semantic_search",
    ]
    assert embedrt.__all__ == expected
    assert all(hasattr(embedrt, name) for name in expected)


def test_package_is_typed() -> None:
    assert (Path(embedrt.__file__).parent / "py.typed").is_file()


def test_import_wall() -> None:
    process = run(IMPORT_WALL)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", ["tqdm", "embedrt.cli", "embedrt.integrations.encoder"])
def test_import_wall_can_fail(name: str) -> None:
    process = run(f"import {name}\n{IMPORT_WALL}")
    assert process.returncode != 0
    assert f"imported: ['{name.removesuffix('.encoder')}'" in process.stderr


def test_no_network(minilm: Path) -> None:
    process = run(NO_NETWORK + ENCODE, str(minilm))
    assert process.returncode == 0, process.stderr
    assert process.stdout == "(2, 384) (384,)\n"
    assert process.stderr == ""


@pytest.mark.parametrize(
    "attempt",
    ["socket.create_connection(('127.0.0.1', 9))", "socket.socket()", "socket.getaddrinfo('a', 1)"],
)
def test_no_network_can_fail(attempt: str) -> None:
    process = run(f"{NO_NETWORK}\n{attempt}")
    assert "opened a connection" in process.stderr


def test_telemetry_is_off_once_imported() -> None:
    code = "import os, embedrt; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run(code).stdout == "1\n"
    chosen = f"import os; os.environ['ORT_DISABLE_TELEMETRY'] = '0'\n{code}"
    assert run(chosen).stdout == "0\n"


def test_telemetry_is_off_before_the_engine_is_imported() -> None:
    code = """
import builtins, os

plain = builtins.__import__

def spy(name, *arguments):
    if name == "onnxruntime":
        print(os.environ.get("ORT_DISABLE_TELEMETRY"))
    return plain(name, *arguments)

builtins.__import__ = spy
import embedrt.engine.session
"""
    assert set(run(code).stdout.split()) == {"1"}


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.BundleNotFoundError, FileNotFoundError),
        (errors.BundleFormatError, ValueError),
        (errors.BundleCorruptError, ValueError),
        (errors.HubError, OSError),
        (errors.TextError, ValueError),
        (errors.OverlongTextError, ValueError),
        (errors.TokenizationError, ValueError),
        (errors.ClosedError, RuntimeError),
        (errors.OverloadedError, RuntimeError),
        (errors.KernelsError, RuntimeError),
        (errors.ForkedError, RuntimeError),
        (errors.NonFiniteEmbeddingError, ArithmeticError),
        (errors.CorpusSourceError, ValueError),
        (errors.CorpusOutputError, ValueError),
        (errors.SourceError, OSError),
        (errors.UnsupportedModelError, ValueError),
        (errors.RecipeMismatchError, ValueError),
        (errors.QuantizationError, RuntimeError),
        (errors.QualityError, RuntimeError),
        (errors.ProofError, RuntimeError),
        (errors.MissingExtraError, ImportError),
    ],
)
def test_every_error_derives_from_ours_and_a_builtin(error: type[Exception], builtin: type) -> None:
    assert issubclass(error, errors.EmbedrtError)
    assert issubclass(error, builtin)
    assert f"{error.__name__} " in (errors.__doc__ or "")


def test_warnings_point_outside_the_package() -> None:
    from embedrt.errors import warn_caller

    with pytest.warns(UserWarning, match="^look$") as caught:
        warn_caller("look")
    assert caught[0].filename == __file__


def test_the_version_is_the_installed_one() -> None:
    assert embedrt.__version__ == version("embedrt")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        embedrt.nothing  # noqa: B018
