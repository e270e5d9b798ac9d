"""The manifest of a sparse encoder: what it must have, and what other bundles must not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from embedrt.bundle.manifest import Manifest, QueryWeights
from embedrt.bundle.reader import MANIFEST
from embedrt.errors import BundleFormatError
from tiny_bundle import tiny_manifest
from tiny_sparse import make_tiny_sparse


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> str:
    queries = QueryWeights(max_tokens=8, by_default=False)
    bundle = make_tiny_sparse(tmp_path_factory.mktemp("m") / "b", queries=queries)
    return (bundle / MANIFEST).read_text(encoding="utf-8")


def changed(fields: str, place: str, value: object) -> str:
    """The manifest with the field at `place` replaced, or removed with `...`."""
    manifest: Any = json.loads(fields)
    *outer, name = place.split(".")
    inside = manifest
    for key in outer:
        inside = inside[key]
    if value is ...:
        del inside[name]
    else:
        inside[name] = value
    return json.dumps(manifest)


def test_round_trip(fields: str) -> None:
    manifest = Manifest.from_json(fields)
    assert manifest.sparse is not None
    assert manifest.sparse.queries == QueryWeights(max_tokens=8, by_default=False)
    assert manifest.to_json() == fields
    assert '"sparse"' not in tiny_manifest().to_json()  # as bundles had none before


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("sparse", ..., r"manifest\.json\.sparse does not fit task 'sparse'; expected an object"),
        ("sparse", None, "does not fit task 'sparse'"),
        ("sparse.pooling", "mean", r"manifest\.json\.sparse\.pooling is 'mean'; expected one of"),
        ("sparse.activation", "gelu", r"sparse\.activation is 'gelu'"),
        ("sparse.max_active_dims", 0, r"sparse\.max_active_dims is 0; expected 1 to"),
        ("sparse.max_active_dims", ..., r"manifest\.json\.sparse lacks max_active_dims"),
        ("sparse.max_active_dims", True, r"sparse\.max_active_dims is True"),
        ("sparse.queries.max_tokens", 0, r"sparse\.queries\.max_tokens is 0"),
        ("sparse.queries.by_default", ..., r"manifest\.json\.sparse\.queries lacks by_default"),
        ("sparse.other", 5, r"manifest\.json\.sparse has unknown fields"),
        ("dimension", 1 << 21, "expected 1 to 1048576"),
        ("outputs", [], "does not fit task 'sparse'"),
    ],
)
def test_invalid_fields_are_named(fields: str, place: str, value: object, message: str) -> None:
    with pytest.raises(BundleFormatError, match=message):
        Manifest.from_json(changed(fields, place, value))


def test_vocabularies_are_wider_than_embeddings(fields: str) -> None:
    assert Manifest.from_json(changed(fields, "dimension", 250_002)).dimension == 250_002
    with pytest.raises(BundleFormatError, match="dimension is 250002; expected 1 to 65536"):
        Manifest.from_json(changed(tiny_manifest().to_json(), "dimension", 250_002))


def test_other_tasks_have_no_such_field(fields: str) -> None:
    sparse = json.loads(fields)["sparse"]
    with pytest.raises(BundleFormatError, match="sparse does not fit task 'embedding'"):
        Manifest.from_json(changed(tiny_manifest().to_json(), "sparse", sparse))
