"""Tests that a damaged graph is refused, or runs, and never crashes the kernels."""

from __future__ import annotations

import dataclasses
import itertools
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.bundle.manifest import Manifest
from embedrt.bundle.protobuf import Messages
from embedrt.bundle.reader import GRAPH, MANIFEST, describe_file
from embedrt.bundle.weights import WEIGHTS
from embedrt.errors import BundleError, KernelsError, NonFiniteEmbeddingError
from embedrt.kernels.graph import read_graph
from embedrt.kernels.library import Library, LibraryError
from embedrt.kernels.recognize import recognize
from embedrt.kernels.session import Model
from embedrt_export import export_model
from model_folders import make_small


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of MPNet, whose graph has every kind of node that is recognized."""
    folder = tmp_path_factory.mktemp("mutated")
    model = make_small(folder / "mpnet", "mpnet", config={"num_attention_heads": 1})
    return export_model(str(model), output=folder / "int8", precision="int8")


def mutate(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.choice([1, 1, 1, 2, 5])):
        place = generator.randrange(len(changed))
        what = generator.randrange(3)
        if what == 0:
            changed[place] = generator.randrange(256)
        elif what == 1:
            changed[place] ^= 1 << generator.randrange(8)
        else:
            del changed[place : place + generator.randrange(1, 9)]
    return bytes(changed)


def test_damaged_graphs(library: Library, path: str, bundle: Path) -> None:
    graph, weights = (bundle / GRAPH).read_bytes(), (bundle / WEIGHTS).read_bytes()
    ids = np.array([[5, 6, 7]])
    refused = ran = 0
    for seed in range(1500):
        damaged = mutate(graph, random.Random(seed))
        try:
            model = Model(library, path, recognize(read_graph(Messages(damaged), weights)))
            model.run(ids, threads=1)
        except (ValueError, LookupError, LibraryError):
            refused += 1
        else:
            ran += 1
    assert refused > 500
    assert ran > 5  # a changed number is another model


def test_damaged_bundles(bundle: Path, tmp_path: Path, library: Library) -> None:
    """Files that were damaged before the manifest was made are refused, or pass the probes."""
    if library.path() is None:
        pytest.skip("there are no kernels for this processor")
    manifest = Manifest.from_json((bundle / MANIFEST).read_bytes())
    refused = ran = 0
    for seed, name in itertools.product(range(40), (GRAPH, WEIGHTS)):
        damaged = tmp_path / f"{seed} {name}"
        shutil.copytree(bundle, damaged)
        content = mutate((bundle / name).read_bytes(), random.Random(seed))
        (damaged / name).write_bytes(content)
        files = {**manifest.files, name: describe_file(damaged / name)}
        changed = dataclasses.replace(manifest, files=files)
        (damaged / MANIFEST).write_text(changed.to_json(), encoding="utf-8")
        try:
            with Embedder.load(damaged, kernels="require") as embedder:
                assert np.isfinite(embedder.encode(["a text", "b"])).all()
        except (BundleError, KernelsError, NonFiniteEmbeddingError):
            refused += 1
        else:
            ran += 1
    assert refused > 20
    assert ran > 5  # most bytes of weights change little
