"""Where a model's files come from: a folder, a package, or the hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download

from embedrt.errors import SourceError
from embedrt_export.source.checkpoint import INDEX_SUFFIX, SAFETENSORS, TORCH
from embedrt_export.source.modules import MODULES
from embedrt_export.source.recipe import Recipe, load_recipes

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

# Configs and tokenizers by file name, wherever in the repository they lie.
SMALL_FILES = frozenset(
    """
    modules.json config.json config_sentence_transformers.json sentence_bert_config.json
    tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt
    vocab.json merges.txt bpe.codes sentencepiece.bpe.model spiece.model tokenizer.model README.md
    """.split()
)
OTHER_BACKENDS = frozenset({"onnx", "openvino"})


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files on this machine."""

    folder: Path
    id: str
    origin: str
    revision: str | None
    recipe: Recipe | None


def find_source(model: str, *, revision: str | None = None, files: Path | None = None) -> Source:
    """Find the files of `model`: a recipe's name, a hub id, or a folder.

    Parameters
    ----------
    model
        Recipe names come first; a folder of the same name is ``./NAME``.
    revision
        Branch, tag or commit on the hub, instead of the recipe's.
    files
        A folder that holds the files of a recipe's model, so that nothing is downloaded.

    Raises
    ------
    SourceError
        The files cannot be had, with what to do about it.
    """
    recipes = load_recipes()
    recipe = recipes.get(model) or next((r for r in recipes.values() if r.id == model), None)
    if recipe:
        return _find_recipe(recipe, revision, files)
    if files is not None:
        raise SourceError(f"--files goes with a recipe; {model} is none of {', '.join(recipes)}")
    if Path(model).is_dir():
        if revision is not None:
            raise SourceError(f"{model} is a folder and has no revision {revision}")
        return Source(Path(model), Path(model).resolve().name, "folder", None, None)
    if HUB_ID.fullmatch(model) and not model.startswith("."):
        return _download(model, revision, None)
    raise SourceError(
        f"{model} is no folder here, no hub id (owner/name), and none of the recipes "
        f"{', '.join(recipes)}"
    )


def _find_recipe(recipe: Recipe, revision: str | None, files: Path | None) -> Source:
    if files is not None:
        return Source(files, recipe.id, "folder", None, recipe)
    if revision is None and recipe.package:
        folder = _package_folder(recipe.package)
        if folder is not None:
            origin = f"{recipe.package} {metadata.version(recipe.package)}"
            return Source(folder, recipe.id, origin, None, recipe)
    return _download(recipe.id, revision or recipe.revision, recipe)


def _package_folder(package: str) -> Path | None:
    """Return the model's folder in an installed package; None where it is not installed."""
    try:
        contents = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())).parent for f in contents if f.name == MODULES), None)


def _download(model: str, revision: str | None, recipe: Recipe | None) -> Source:
    try:
        info = HfApi().model_info(model, revision=revision)
        needed = needed_files([entry.rfilename for entry in info.siblings or []])
        folder = snapshot_download(model, revision=info.sha, allow_patterns=needed)
    except Exception as error:  # the hub client's many: offline, unknown, gated, disk full
        option = f"{recipe.name} --files FOLDER" if recipe else "FOLDER"
        raise SourceError(
            f"{model} cannot be downloaded from the hub ({type(error).__name__}: {error}). "
            "Check the id and the network; or, where there is none, copy the model's files from a "
            f"machine that has them and export that folder: embedrt export {option}"
        ) from error
    return Source(Path(folder), model, "hub", info.sha, recipe)


def needed_files(files: Sequence[str]) -> list[str]:
    """Return the files that an export reads: small ones, and of each folder's weights one kind."""
    needed: list[str] = []
    paths = [
        path for file in files if not OTHER_BACKENDS & set((path := PurePosixPath(file)).parts)
    ]
    for folder in sorted({path.parent for path in paths}):
        inside = [path for path in paths if path.parent == folder]
        needed += [str(path) for path in inside if path.name in SMALL_FILES]
        for stem in (SAFETENSORS, TORCH):
            weights = [path for path in inside if _is_weight(path.name, stem)]
            if weights:
                needed += [str(path) for path in weights]
                break
    return needed


def _is_weight(name: str, standard: str) -> bool:
    """Whether this is ``model.safetensors``, its index, or a shard ``model-00001-of-00002...``."""
    stem, _, suffix = standard.rpartition(".")
    shard = re.fullmatch(rf"{re.escape(stem)}-\d+-of-\d+\.{suffix}", name)
    return bool(shard) or name in (standard, standard + INDEX_SUFFIX)
