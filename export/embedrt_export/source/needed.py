"""Determines which files an export reads and which of them a folder lacks."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from embedrt.errors import SourceError
from embedrt_export.source.card import CARD
from embedrt_export.source.checkpoint import INDEX_SUFFIX, SAFETENSORS, TORCH, weight_files
from embedrt_export.source.embedding import WEIGHTED_MODULES
from embedrt_export.source.keys import HEAD, WITHOUT_CONFIG
from embedrt_export.source.late import MASK
from embedrt_export.source.modules import MODULES
from embedrt_export.source.prompts import EXTRAS
from embedrt_export.source.sparse import ROUTER_FILE, ROUTERS, TRANSFORMERS
from embedrt_export.source.task import read_task

# Settings, vocabularies and tokenizers by suffix, because each tokenizer class has its own names.
SMALL_KINDS = frozenset(
    [".bpe", ".codes", ".jinja", ".json", ".model", ".spm", ".tiktoken", ".tokenizer", ".txt"]
)
# Training scripts write these files; loading a model does not read them.
UNREAD = frozenset({"data_config.json", "trainer_state.json"})
OTHER_BACKENDS = frozenset({"onnx", "openvino"})

CONFIG = "config.json"
SPLADE, TABLE = "SpladePooling", "SparseStaticEmbedding"
NO_VOCABULARY = re.compile(
    r"README\.md|(modules|added_tokens|config_sentence_transformers|.*config|.*_map)\.json"
)


def needed_files(files: Sequence[str]) -> list[str]:
    """Return the files that an export reads: small files, and one format of weights per folder."""
    needed: list[str] = []
    paths = [
        path for file in files if not OTHER_BACKENDS & set((path := PurePosixPath(file)).parts)
    ]
    for folder in sorted({path.parent for path in paths}):
        inside = [path for path in paths if path.parent == folder]
        needed += [str(path) for path in inside if is_small(path.name)]
        for stem in (SAFETENSORS, TORCH):
            weights = [path for path in inside if _is_weight(path.name, stem)]
            if weights:
                needed += [str(path) for path in weights]
                break
    return needed


def is_small(name: str) -> bool:
    """Whether a file with this name may hold settings, a tokenizer or the model card."""
    is_index = name.endswith(INDEX_SUFFIX)
    is_read = PurePosixPath(name).suffix in SMALL_KINDS and name not in UNREAD
    return (is_read and not is_index) or name == CARD


def _is_weight(name: str, standard: str) -> bool:
    """Whether a name is `standard`, its index, or a shard such as ``model-00001-of-00002...``."""
    stem, _, suffix = standard.rpartition(".")
    shard = re.fullmatch(rf"{re.escape(stem)}-\d+-of-\d+\.{suffix}", name)
    return bool(shard) or name in (standard, standard + INDEX_SUFFIX)


def module_folders(modules: Path) -> set[PurePosixPath]:
    """Return the folders that a ``modules.json`` and its routers name, and its own folder."""
    return {PurePosixPath(), *(path for _, path in _modules(modules))}


def missing_parts(folder: Path) -> list[str]:
    """Return the files missing from `folder`, according to its ``modules.json`` and links."""
    names = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*"))]
    broken = [name for name in names if (folder / name).is_symlink() and name != CARD]
    missing = [name for name in needed_files(broken) if not (folder / name).exists()]
    modules = _parts(folder)
    if not modules and not (folder / MODULES).is_file():
        missing.append(MODULES)
    for kind, path in modules:
        is_encoder = kind in TRANSFORMERS
        has_vocabulary = is_encoder or kind in {TABLE, "StaticEmbedding"}
        needs_config = is_encoder or kind in {*HEAD, SPLADE, MASK} - WITHOUT_CONFIG
        if kind in ROUTERS and _router_file(folder / path) is None:
            missing.append(str(path / ROUTER_FILE))
        if needs_config and not (folder / path / CONFIG).is_file():
            missing.append(str(path / CONFIG))
        if has_vocabulary or kind in WEIGHTED_MODULES:
            missing += _missing_weights(folder, path)
        if has_vocabulary and not _has_vocabulary(folder / path):
            missing.append("a vocabulary of its tokenizer")
    return list(dict.fromkeys(missing))


def absent_settings(folder: Path) -> list[str]:
    """Return the optional settings files, absent from `folder`, that affect results."""
    if _is_classifier(folder):
        return [name for name in ["tokenizer_config.json"] if not (folder / name).is_file()]
    absent = [EXTRAS]
    for kind, path in _modules(folder / MODULES):
        if kind in TRANSFORMERS:
            absent.append(str(path / "tokenizer_config.json"))
            if not list((folder / path).glob("sentence_*_config.json")):
                absent.append(str(path / "sentence_bert_config.json"))
    return [name for name in absent if not (folder / name).is_file()]


def _parts(folder: Path) -> list[tuple[str, PurePosixPath]]:
    """Return each module's class and folder; for a classifier without modules, its own."""
    if _is_classifier(folder):
        return [("Transformer", PurePosixPath())]
    return _modules(folder / MODULES)


def _is_classifier(folder: Path) -> bool:
    """Whether a folder holds a cross-encoder without ``modules.json``."""
    return not (folder / MODULES).is_file() and read_task(folder) == "reranking"


def _modules(file: Path) -> list[tuple[str, PurePosixPath]]:
    """Return each module's class and folder, also of modules behind a router.

    An empty list if a file is malformed: `read_settings` reports the problem later.
    """
    try:
        modules = [
            (entry["type"].rpartition(".")[2], PurePosixPath(entry["path"]))
            for entry in json.loads(file.read_text(encoding="utf-8-sig"))
        ]
        return modules + [
            inner
            for kind, path in modules
            if kind in ROUTERS
            for inner in _routed(file.parent / path, path)
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def router_files(modules: Path) -> list[str]:
    """Return the files that may describe the routers of a ``modules.json``, newest first."""
    return [
        str(path / name)
        for kind, path in _modules(modules)
        if kind in ROUTERS
        for name in (ROUTER_FILE, CONFIG)
    ]


def _router_file(folder: Path) -> Path | None:
    names = (ROUTER_FILE, CONFIG)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _routed(folder: Path, path: PurePosixPath) -> list[tuple[str, PurePosixPath]]:
    """Return the class and folder of each module behind the router in `folder`."""
    file = _router_file(folder)
    if file is None:
        return []
    types = json.loads(file.read_text(encoding="utf-8-sig"))["types"]
    return [(kind.rpartition(".")[2], path / name) for name, kind in types.items()]


def _missing_weights(folder: Path, path: PurePosixPath) -> list[str]:
    try:
        weight_files(folder / path)
    except SourceError as error:
        return [f"{path / SAFETENSORS} ({error})"]
    return []


def _has_vocabulary(folder: Path) -> bool:
    return any(
        file.is_file() and is_small(file.name) and not NO_VOCABULARY.fullmatch(file.name)
        for file in folder.glob("*")
    )
