"""Pulling: resolve the commit, download, verify, and only then rename the bundle to its name.

    place -> commit -> the client's cache -> hidden folder: hashes, probes -> name

Without an output, a bundle is named by its commit in the client's folder for other libraries
(``HF_ASSETS_CACHE``), as links to the files in the client's cache. If the commit exists there, the
hub is not contacted.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from embedrt.bundle.manifest import Manifest
from embedrt.bundle.reader import MANIFEST, MAX_MANIFEST_BYTES, Bundle, describe_file
from embedrt.bundle.writer import staged_bundle
from embedrt.errors import BundleCorruptError, BundleFormatError, BundleNotFoundError, EmbedrtError
from embedrt.hub.client import hub_client
from embedrt.hub.place import Place, noted_place
from embedrt.tasks import load_any
from embedrt.verify import check_probes, try_bundle

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A verified bundle and its place on the hub."""

    place: Place
    """With the commit as its revision."""
    folder: Path


def pull(spelling: str, *, revision: str | None = None, output: Path | None = None) -> Pulled:
    """Pull a bundle from a hub, and verify it.

    Parameters
    ----------
    spelling
        ``org/name`` or ``org/name@REVISION``, with or without ``hub:`` before it.
    revision
        Branch, tag or commit, if the spelling has none; by default the main branch.
    output
        The folder to create; by default one in the client's cache.

    Raises
    ------
    HubError
        The hub, the repository or the revision cannot be reached, or the cache is not writable.
    BundleNotFoundError, BundleFormatError, BundleCorruptError
        The repository holds no bundle, one of a newer format, or a damaged one.
    ExportError
        `output` exists and is not a bundle, or cannot be written.
    """
    place = Place.parse(spelling, revision)
    with hub_client(f"{place} cannot be pulled") as client:
        assets = Path(client.constants.HF_ASSETS_CACHE) / "embedrt"
        known = _folder(assets, place)
        if known is None or not _is_whole(known):
            place = _download(client, place)
        return Pulled(place=place, folder=_named(client, place, assets, output))


def _folder(assets: Path, place: Place) -> Path | None:
    """Return the folder for a commit in the cache; None for a branch."""
    return assets / place.id.replace("/", "--") / place.commit if place.commit else None


def _download(client: ModuleType, place: Place) -> Place:
    """Download the bundle's files into the client's cache; return the place with the commit."""
    try:
        info = client.HfApi().model_info(
            place.id,
            revision=place.revision,
            files_metadata=True,
            timeout=client.constants.HF_HUB_ETAG_TIMEOUT,
        )
    except client.errors.RevisionNotFoundError:
        raise
    except Exception as error:
        cached = _cached(client, place)
        if cached is None:
            raise
        logger.warning("%s comes from the hub's cache: %s", cached, type(error).__name__)
        return cached
    found = place.at(info.sha)
    sizes = {each.rfilename: each.size or 0 for each in info.siblings or []}
    names = _names(client, found, sizes)
    megabytes = sum(sizes[name] for name in names) / 1e6
    logger.info("fetching %d files of %s, %.1f MB", len(names), found, megabytes)
    # By the branch's name, so that the client's cache can resolve the name without the hub.
    folder = client.snapshot_download(place.id, revision=place.revision, allow_patterns=names)
    if Path(folder).name != info.sha:  # the branch has moved meanwhile
        client.snapshot_download(place.id, revision=info.sha, allow_patterns=names)
    return found


def _cached(client: ModuleType, place: Place) -> Place | None:
    try:
        return place.at(_snapshot(client, place).name)
    except client.errors.LocalEntryNotFoundError:
        return None


def _names(client: ModuleType, place: Place, sizes: dict[str, int]) -> list[str]:
    """Download the manifest of the bundle in a repository; return the names of its files."""
    if MANIFEST not in sizes:
        raise BundleNotFoundError(f"{place} is not a bundle: {_description(place, sizes)}")
    if sizes[MANIFEST] > MAX_MANIFEST_BYTES:
        raise BundleFormatError(f"{place}: {MANIFEST} has more than {MAX_MANIFEST_BYTES} bytes")
    file = client.hf_hub_download(place.id, MANIFEST, revision=place.revision)
    try:
        manifest = Manifest.from_json(Path(file).read_bytes())
    except BundleFormatError as error:
        raise BundleFormatError(f"{place}: {error}") from error
    for name, entry in manifest.files.items():
        if sizes.get(name) != entry.size:
            has = f"{sizes[name]} bytes of it" if name in sizes else "none"
            raise BundleCorruptError(
                f"{place}: the manifest says that {name} has {entry.size} bytes and the repository "
                f"has {has}; push the bundle again"
            )
    return [MANIFEST, *manifest.files]


def _description(place: Place, sizes: dict[str, int]) -> str:
    if "modules.json" in sizes:
        return f"it holds a sentence-transformers model; make one with: embedrt export {place.id}"
    listed = ", ".join(sorted(sizes)[:5]) or "nothing"
    return f"its repository has no {MANIFEST} (it has {listed})"


def _named(client: ModuleType, place: Place, assets: Path, output: Path | None) -> Path:
    """Verify the downloaded bundle and rename it, unless another process just did."""
    folder = _folder(assets, place)
    assert folder is not None  # the commit is known by now
    if output is None and _is_whole(folder):
        return folder
    with _alone(client, folder) as writable:
        if output is None and _is_whole(folder):
            return folder
        source = folder if _is_whole(folder) else _snapshot(client, place)
        if output is None and not writable:
            _verify(source, place, source)
            return source
        with staged_bundle(output or folder) as staging:
            for file in source.iterdir():
                if file.is_file() and not file.name.startswith("."):
                    _copy(file.resolve(), staging.path / file.name, linked=output is None)
            place.note(staging.path)
            _verify(staging.path, place, source)
            staging.publish()
        return staging.target


def _snapshot(client: ModuleType, place: Place) -> Path:
    """Return the folder of the place in the client's cache, without asking the hub."""
    return Path(
        client.snapshot_download(
            place.id, revision=place.revision, allow_patterns=[], local_files_only=True
        )
    )


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds a pulled bundle, which was verified before it was renamed."""
    try:
        return noted_place(folder) is not None and bool(Bundle.open(folder))
    except EmbedrtError:  # damaged since
        return False


@contextmanager
def _alone(client: ModuleType, folder: Path) -> Iterator[bool]:
    """Lock the folder against other processes; yield whether it can be created at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        yield False
        return
    lock: Any = client.utils.WeakFileLock(folder.with_name(f".{folder.name}.lock"))
    with lock:
        yield True


def _copy(source: Path, target: Path, *, linked: bool) -> None:
    if linked:
        try:
            os.link(source, target)
        except OSError:  # on another file system
            pass
        else:
            return
    shutil.copyfile(source, target)


def _verify(folder: Path, place: Place, source: Path) -> None:
    """Check every hash, and the probes, first in a child process because they may crash it."""
    try:
        bundle = Bundle.open(folder, verify="sha256")
        try_bundle(folder)
        with load_any(bundle) as loaded:
            check_probes(loaded, bundle)
    except EmbedrtError as error:
        _forget_damaged(source)
        reason = str(error).replace(f"{folder}/", "").replace(str(folder), "the bundle")
        raise type(error)(f"{place} is refused: {reason}") from error


def _forget_damaged(source: Path) -> None:
    """Remove files from the client's cache whose content differs from the manifest.

    Otherwise the client would always return them.
    """
    for name, entry in Bundle.open(source).manifest.files.items():
        file = source / name
        if describe_file(file) != entry:
            file.resolve().unlink()
            file.unlink(missing_ok=True)
