"""Downloads a model from the hub, or finds it in the hub client's cache."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from embedrt.errors import SourceError
from embedrt_export.quiet import quiet
from embedrt_export.source.checkpoint import WEIGHT_FILES, why_no_weights
from embedrt_export.source.modules import MODULES
from embedrt_export.source.needed import (
    CONFIG,
    absent_settings,
    is_small,
    missing_parts,
    module_folders,
    needed_files,
    router_files,
)
from embedrt_export.source.other_models import ADAPTER, why_no_model
from embedrt_export.source.task import read_task

# The largest known tokenizer.json has 35 MB; larger files hold data.
LARGEST_SMALL_BYTES = 100_000_000

logger = logging.getLogger(__name__)


def fetch_model(model: str, revision: str | None) -> Path:
    """Return the folder with a model's files at one commit; its name is the commit.

    As in sentence-transformers, the client's cache is used if the hub is unreachable or refuses
    access and the cache holds the complete model.

    Raises
    ------
    SourceError
        The repository holds no sentence-transformers model, or the cached model is incomplete.
    Exception
        Errors of the client: no connection, an unknown id or revision, a full disk.
    """
    try:
        info = HfApi().model_info(
            model, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    except RevisionNotFoundError:
        raise
    except Exception as error:  # offline, unreachable, gated, private, gone
        folder = _cached_folder(model, revision)
        if folder is None:
            raise
        _check_cached(model, folder, error)
        return folder
    return _download(model, revision, info)


def _cache() -> str | None:
    """Return the cache folder of sentence-transformers; None for the client's default."""
    return os.environ.get("SENTENCE_TRANSFORMERS_HOME") or None


def _download(model: str, revision: str | None, info: ModelInfo) -> Path:
    sizes = {entry.rfilename: entry.size or 0 for entry in info.siblings or []}
    outline = next((name for name in (MODULES, CONFIG) if name in sizes), None)
    if outline is not None:
        with quiet(), _without_bars():
            file = Path(hf_hub_download(model, outline, revision=info.sha, cache_dir=_cache()))
    if outline is None or (outline == CONFIG and read_task(file.parent) == "embedding"):
        raise SourceError(why_no_model(model, sizes))
    if {PurePosixPath(name).name for name in sizes}.isdisjoint((*WEIGHT_FILES, ADAPTER)):
        raise SourceError(why_no_weights(model, sizes))
    for name in filter(sizes.__contains__, router_files(file.with_name(MODULES))):
        with quiet(), _without_bars():
            hf_hub_download(model, name, revision=info.sha, cache_dir=_cache())
    needed = _needed(sizes, module_folders(file.with_name(MODULES)))
    megabytes = sum(sizes[name] for name in needed) / 1e6
    logger.info("fetching %d files of %s, %.1f MB", len(needed), model, megabytes)
    with quiet(), _without_bars():
        folder = Path(
            snapshot_download(
                model,
                revision=revision,  # a branch by name, so that the cache can resolve the name later
                allow_patterns=[glob.escape(name) for name in needed],
                cache_dir=_cache(),
            )
        )
    if folder.name != info.sha or not all((folder / name).is_file() for name in needed):
        raise SourceError(f"{model} changed on the hub while it was downloaded; export it again")
    return folder


def _needed(sizes: dict[str, int], folders: Collection[PurePosixPath]) -> list[str]:
    """Return the files in `folders` that an export reads, without large data files."""
    return needed_files(
        [
            name
            for name, size in sizes.items()
            if (path := PurePosixPath(name)).parent in folders
            and (size <= LARGEST_SMALL_BYTES or not is_small(path.name))
        ]
    )


@contextmanager
def _without_bars() -> Iterator[None]:
    """Disable the client's progress bars."""
    were_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            enable_progress_bars()


def _cached_folder(model: str, revision: str | None) -> Path | None:
    """Return the folder in the client's cache; None if the revision is not cached."""
    try:
        folder = snapshot_download(
            model,
            revision=revision,
            allow_patterns=[],  # `_check_cached` determines which files are required
            local_files_only=True,
            cache_dir=_cache(),
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


def _check_cached(model: str, folder: Path, why: Exception) -> None:
    """Raise SourceError if the cached model is incomplete; log that it is used."""
    kind, text = type(why).__name__, " ".join(str(why).split())[:300]
    listed = _cached_names(model, folder)
    absent = absent_settings(folder)
    missing = missing_parts(folder) + [name for name in absent if listed and name in listed]
    if missing:
        raise SourceError(
            f"{model} at {folder.name} is only partly in the hub's cache, and the hub cannot be "
            f"reached ({kind}: {text}). {folder} lacks {', '.join(missing)}. Export it once with "
            "access to the hub; or copy the model's files from a machine that has them, and export "
            "that folder"
        ) from why
    logger.warning(
        "%s at %s comes from the hub's cache: the hub cannot be reached (%s)",
        model,
        folder.name,
        kind,
    )
    unknown = [name for name in absent if listed is None and not _is_known(model, folder, name)]
    if unknown:
        logger.warning(
            "the cache lacks %s, and whether the model has them is unknown", ", ".join(unknown)
        )


def _cached_names(model: str, folder: Path) -> Collection[str] | None:
    """Return the names of the repository's files; None if the client has not cached them."""
    list_files = getattr(huggingface_hub, "get_cached_repo_tree", None)  # since 2.0
    if list_files is not None:
        with suppress(Exception):  # no list is cached, or another version wrote it
            return {
                file.path for file in list_files(model, revision=folder.name, cache_dir=_cache())
            }
    return None


def _is_known(model: str, folder: Path, name: str) -> bool:
    """Whether the client has requested a file before and knows if it exists."""
    found = huggingface_hub.try_to_load_from_cache(
        model, name, revision=folder.name, cache_dir=_cache()
    )
    return found is not None
