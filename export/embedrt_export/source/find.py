"""Locates a model's files in a folder, a package or the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from embedrt.errors import SourceError
from embedrt_export.source.hub import fetch_model
from embedrt_export.source.modules import MODULES
from embedrt_export.source.recipe import Recipe, load_recipes

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# The address of a model's page, the spelling of other tools, and a name completed by a shell.
OTHER_SPELLING = re.compile(
    r"(?:https?://[^/]+/|hf://|hub:)?(?P<id>\w[\w.-]*/[\w.-]+)"
    r"(?:(?:@|/tree/|/blob/|/resolve/)(?P<commit>[\w.-]+).*)?/?"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files on the local machine and their origin."""

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
        A recipe takes precedence over a folder of the same name; pass such a folder as ``./NAME``.
    revision
        Branch, tag or commit on the hub. It overrides the recipe's.
    files
        Folder with the files of a recipe's model, to use instead of a download.

    Raises
    ------
    SourceError
        The files cannot be found or downloaded. The message says how to proceed.
    """
    recipes = load_recipes()
    recipe = recipes.get(model) or next((r for r in recipes.values() if r.id == model), None)
    if recipe:
        return _find_recipe(recipe, revision, files)
    if files is not None:
        raise SourceError(f"--files requires a recipe; {model} is not one of {', '.join(recipes)}")
    if Path(model).is_dir():
        if revision is not None:
            raise SourceError(f"{model} is a folder and has no revision {revision}")
        return Source(Path(model), Path(model).resolve().name, "folder", None, None)
    if Path(model).exists():
        raise SourceError(
            f"{model} is a file, and a model is a folder of several files: name the folder that "
            "holds modules.json"
        )
    if HUB_ID.fullmatch(model) and not model.startswith("."):
        return _download(model, revision, None)
    if spelled := OTHER_SPELLING.fullmatch(model):
        commit = spelled["commit"]
        option = f" --revision {commit}" if commit else ""
        raise SourceError(
            f"{model} is not an existing folder, and an id on the hub is spelled owner/name: "
            f"embedrt export {spelled['id']}{option}"
        )
    raise SourceError(
        f"{model} is not an existing folder, a hub id (owner/name) or one of the recipes "
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
    """Return the model's folder in an installed package; None if it is not installed."""
    try:
        contents = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())).parent for f in contents if f.name == MODULES), None)


def _download(model: str, revision: str | None, recipe: Recipe | None) -> Source:
    try:
        folder = fetch_model(model, revision)
    except SourceError:
        raise
    except Exception as error:  # of many kinds: offline, unknown id, gated, disk full
        option = f"{recipe.name} --files FOLDER" if recipe else "FOLDER"
        commit = f" at {revision}" if revision else ""
        raise SourceError(
            f"{model}{commit} cannot be downloaded from the hub ({type(error).__name__}: {error}). "
            "Check the id and the network; or, where there is none, copy the model's files from a "
            f"machine that has them and export that folder: embedrt export {option}"
        ) from error
    return Source(folder, model, "hub", folder.name, recipe)
