"""Reads ``modules.json``, the ordered list of a model's modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.source.checks import JsonObject, check_object, read_object
from embedrt_export.source.files import read_json
from embedrt_export.source.keys import MODULE

MODULES = "modules.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One entry of ``modules.json``."""

    type: str
    """Fully qualified name of the class."""
    path: Path
    """The module's folder."""
    config: JsonObject
    """Content of the module's ``config.json``; empty if there is none."""

    @property
    def kind(self) -> str:
        """Name of the class: Transformer, Pooling, ..."""
        return self.type.rpartition(".")[2]

    @property
    def config_file(self) -> Path:
        """The file that `config` was read from."""
        return self.path / "config.json"


def read_modules(folder: Path) -> list[Module]:
    """Return the modules of the model in `folder`.

    Raises SourceError if ``modules.json`` is not a list of modules, and UnsupportedModelError if it
    names a folder outside of the model's folder.
    """
    file = folder / MODULES
    entries = read_json(file)
    if not isinstance(entries, list) or not entries or not all(map(_is_entry, entries)):
        raise SourceError(f"{file} is not a list of modules, each with a name, a type and a path")
    names: set[str] = set()
    for entry in entries:
        check_object(folder, file, entry, MODULE)
        name = entry.get("name")
        if name in names:
            raise SourceError(
                f"{file} names two modules {name!r}, and sentence-transformers would run one of "
                "them; give each a name of its own"
            )
        names |= {name} - {None}
    return [read_module(folder, entry["type"], entry["path"]) for entry in entries]


def foreign_modules(modules: Sequence[Module]) -> list[str]:
    """Return the reasons why modules that sentence-transformers does not have are refused."""
    return [
        f"its module {module.type} is not part of sentence-transformers and would run code of "
        "the model's author"
        for module in modules
        if not module.type.startswith("sentence_transformers.")
    ]


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and {"name", "type", "path"} <= entry.keys()


def read_module(folder: Path, kind: str, path: str) -> Module:
    """Return the module of class `kind` at `path` in the model's folder.

    Raises UnsupportedModelError if it lies outside of the model's folder.
    """
    module = folder / path
    try:
        inside = not Path(path).is_absolute() and module.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a loop of symbolic links, or NUL in the name
        inside = False
    if not inside:
        raise UnsupportedModelError(f"{folder / MODULES} names a folder outside the model: {path}")
    return Module(type=kind, path=module, config=read_object(module / "config.json"))
