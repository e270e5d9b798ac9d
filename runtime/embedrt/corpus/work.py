"""The work of a run: the data that all of its parts share, and the settings file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedrt.bundle.reader import MANIFEST, Bundle
from embedrt.corpus.embedding import Embedding
from embedrt.corpus.places import Place

PACKAGES = ("embedrt", "onnxruntime", "tokenizers", "numpy", "pyarrow", "embedrt-kernels")
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work to do on each part. Picklable, and the same in every process."""

    source: Place
    root: str
    """The path that the files' paths are relative to."""
    output: Place
    bundle: Path
    bundle_sha256: str
    """sha256 of the manifest, which has the hashes of all other files."""
    engine: str
    """The engine of all parts: ONNX Runtime or kernels."""
    dimension: int
    embedding: Embedding
    carried: Any
    """Schema of the source columns in the output."""
    partitions: Any
    """Schema of the partition columns, from the names of folders."""
    identity: str
    """Hash of all settings and of the plan; each part's file holds it."""


def hash_bundle(bundle: Bundle) -> str:
    """Return the sha256 of the manifest, which has the hashes of all other files."""
    return hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()


def settings_of(
    bundle: Bundle, engine: str, embedding: Embedding, carried: Any, plan_digest: str
) -> dict[str, Any]:
    """Return the settings that determine the bytes of the output, as JSON."""
    manifest = bundle.manifest
    return {
        "version": VERSION,
        "bundle": {
            "name": manifest.name,
            "precision": manifest.precision,
            "sha256": hash_bundle(bundle),
        },
        "engine": engine,
        "dimension": manifest.dimension,
        **embedding.to_json(),
        "columns": {field.name: str(field.type) for field in carried},
        "plan": plan_digest,
    }


def identify(settings: dict[str, Any]) -> str:
    """Return a hash of the settings."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that compute and write."""
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def columns_to_read(work: Work, schema: Any) -> Any:
    """Return the required columns of a file, with the file's own types."""
    return choose_to_read(schema, dict.fromkeys([*work.embedding.text, *work.carried.names]))


def choose_to_read(schema: Any, needed: Iterable[str]) -> Any:
    """Return the required columns of a file, or its first column if it has none of them.

    A table without columns loses the number of its rows.
    """
    found = [schema.field(name) for name in needed if name in schema.names]
    return pa.schema(found or list(schema)[:1])
