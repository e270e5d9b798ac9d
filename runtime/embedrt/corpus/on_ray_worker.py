"""The Ray task, in a module that workers import by its name."""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyarrow import fs

from embedrt.bundle.reader import MANIFEST, Bundle
from embedrt.corpus.computing import load_to_embed
from embedrt.corpus.output import read_facts
from embedrt.corpus.part import Outcome, Run, make_part, read_run
from embedrt.corpus.plan import Part
from embedrt.corpus.table import AnyEncoder
from embedrt.corpus.work import Work, hash_bundle
from embedrt.errors import BundleError, CorpusError

Packed = dict[str, bytes]
"""The files of a bundle."""


def make_parts(work: Work, shipped: list[Any], threads: int, run: Run) -> list[tuple[Outcome, int]]:
    """Make the parts of a run that an earlier attempt has not made.

    Returns the outcome of each part, with the number of tokens computed for it.
    """
    embedder = _load(find_bundle(work, shipped[0]), threads, work.engine)
    there = [part for part in run.parts if is_there(work, part)]
    outcomes: list[tuple[Outcome, int]] = [(read_facts(work.output, one.name), 0) for one in there]
    rest = Run(file=run.file, parts=tuple(part for part in run.parts if part not in there))
    for part, table in read_run(work, rest):
        before = embedder.stats().tokens
        outcome = make_part(work, rest, part, table, embedder)
        outcomes.append((outcome, embedder.stats().tokens - before))
    return outcomes


def is_there(work: Work, part: Part) -> bool:
    """Whether a part's file exists."""
    info = work.output.filesystem.get_file_info(work.output.join(part.name))
    return bool(info.type == fs.FileType.File)


def pack_bundle(path: Path) -> Packed:
    """Return the files of a bundle, to send them to nodes that cannot access its folder."""
    bundle = Bundle.open(path)
    return {name: (path / name).read_bytes() for name in (MANIFEST, *bundle.manifest.files)}


@lru_cache(maxsize=1)
def _load(path: Path, threads: int, engine: str) -> AnyEncoder:
    """Return the loaded bundle of this worker."""
    return load_to_embed(path, threads, engine)


def find_bundle(work: Work, shipped: Any) -> Path:
    """Return the bundle's folder on this node, unpacked once per node if it is not shared."""
    if _is_bundle(work.bundle, work):
        return work.bundle
    if shipped is None:
        raise CorpusError(f"{work.bundle} changed during the run: run again")
    name = f"embedrt-bundle-{_user()}-{work.bundle_sha256[:32]}"
    folder = Path(tempfile.gettempdir()) / name
    if not _is_bundle(folder, work, hashed=True):
        folder = _unpack(shipped, folder)
        if not _is_bundle(folder, work, hashed=True):
            raise CorpusError(f"{folder}: the bundle that was sent differs from the one here")
    return folder


def _is_bundle(path: Path, work: Work, *, hashed: bool = False) -> bool:
    try:
        if hashed and path.stat().st_uid != _user():
            return False  # someone else could change it
        bundle = Bundle.open(path, verify="sha256" if hashed else "size")
        return hash_bundle(bundle) == work.bundle_sha256
    except (BundleError, OSError):
        return False


def _user() -> int:
    """Return the number of this user; 0 on Windows, as its files have."""
    return os.getuid() if hasattr(os, "getuid") else 0


def _unpack(shipped: Any, folder: Path) -> Path:
    import ray  # noqa: PLC0415 - this runs on a node of Ray

    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
    for name, content in ray.get(shipped).items():
        (beside / name).write_bytes(content)
    try:
        beside.rename(folder)
    except OSError:  # another worker was first, or someone else has the name
        return beside
    return folder
