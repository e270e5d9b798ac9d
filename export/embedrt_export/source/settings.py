"""What a model's own files say about it.

Read from ``modules.json``, the pooling module's ``config.json``, ``sentence_bert_config.json`` and
``config_sentence_transformers.json``; never from ``tokenizer.json``, whose truncation and padding
are leftovers of training (all-MiniLM-L6-v2's says 128 where the model takes 256).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from embedrt.bundle.manifest import Pooling, Similarity
from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.source.files import read_json
from embedrt_export.source.prompts import EXTRAS, read_prompts

MODULES = "modules.json"
HEAD_MODULES = frozenset({"Pooling", "Dense", "LayerNorm", "Normalize", "Dropout"})
WEIGHTED_MODULES = frozenset({"Dense", "LayerNorm"})

# The switches of configs written before sentence-transformers 5.7, in the order of concatenation.
POOLING_SWITCHES: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLING_NAMES: dict[str, Pooling] = {"mean_sqrt_len_tokens": "mean_sqrt_len"}


@dataclass(frozen=True, slots=True)
class Module:
    """One entry of ``modules.json``."""

    kind: str
    """The class's name: Transformer, Pooling, ..."""
    path: Path
    """The module's folder."""
    config: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the model's files say."""

    folder: Path
    """The model's folder."""
    transformer: Path
    """The folder of the encoder's config, weights and tokenizer."""
    head: tuple[Module, ...]
    """The modules after the transformer, Dropout left out: it does nothing in inference."""
    pooling: tuple[Pooling, ...]
    normalized: bool
    similarity: Similarity | None
    """None where the files are silent."""
    prompts: dict[str, str]
    default_prompt_name: str | None

    @property
    def weight_folders(self) -> list[Path]:
        """The folders that hold weights: the encoder's, and those of modules that have some."""
        return [self.transformer, *(m.path for m in self.head if m.kind in WEIGHTED_MODULES)]


def read_settings(folder: Path) -> Settings:
    """Read the settings of the model in `folder`.

    Raises SourceError where the folder is no model, UnsupportedModelError with every reason that
    this one cannot be exported.
    """
    if not (folder / MODULES).is_file():
        raise SourceError(
            f"{folder} is no sentence-transformers model: it has no {MODULES}. Load it with "
            "sentence-transformers, choose its pooling, and save it; then export that folder"
        )
    entries = _read_entries(folder / MODULES)
    reasons = [
        f"its module {entry['type']} is not part of sentence-transformers and would run code of "
        "the model's author"
        for entry in entries
        if not entry["type"].startswith("sentence_transformers.")
    ]
    first, *rest = [_read_module(folder, entry) for entry in entries]
    head = [module for module in rest if module.kind != "Dropout"]
    if first.kind != "Transformer":
        reasons.append(f"it starts with {first.kind}, not with a Transformer")
    reasons += [
        f"its module {module.kind} is none of {', '.join(sorted(HEAD_MODULES))}"
        for module in head
        if module.kind not in HEAD_MODULES
    ]
    if [module.kind for module in head].count("Pooling") != 1 or head[0].kind != "Pooling":
        reasons.append("its transformer is not followed by one Pooling")
    pooling: tuple[Pooling, ...] = ()
    if head and head[0].kind == "Pooling":
        pooling = pooling_modes(head[0].config)
        if unknown := [mode for mode in pooling if mode not in get_args(Pooling)]:
            reasons.append(f"its pooling {', '.join(unknown)} is unknown")
        if not head[0].config.get("include_prompt", True):
            reasons.append("it leaves its prompt out of the pooling (include_prompt is false)")
    extras = _read_json(folder / EXTRAS)
    similarity = extras.get("similarity_fn_name")
    if similarity not in (None, *get_args(Similarity)):
        reasons.append(f"its similarity_fn_name {similarity!r} is none of {get_args(Similarity)}")
    prompts, default_prompt_name = read_prompts(extras, folder / EXTRAS)
    if reasons:
        raise UnsupportedModelError(f"{folder} cannot be exported: {'; '.join(reasons)}")
    return Settings(
        folder=folder,
        transformer=first.path,
        head=tuple(head),
        pooling=pooling,
        normalized=head[-1].kind == "Normalize",
        similarity=similarity,
        prompts=prompts,
        default_prompt_name=default_prompt_name,
    )


def _read_entries(file: Path) -> list[dict[str, str]]:
    try:
        entries = [{key: str(entry[key]) for key in ("type", "path")} for entry in read_json(file)]
    except (TypeError, LookupError):
        entries = []
    if not entries:
        raise SourceError(f"{file} is no list of modules, each with a type and a path")
    return entries


def _read_module(folder: Path, entry: dict[str, str]) -> Module:
    path = folder / entry["path"]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UnsupportedModelError(f"{folder / MODULES} names a folder outside: {entry['path']}")
    return Module(entry["type"].rpartition(".")[2], path, _read_json(path / "config.json"))


def pooling_modes(config: dict[str, Any]) -> tuple[Pooling, ...]:
    """Return what a Pooling module concatenates, in order."""
    modes = config.get("pooling_mode")
    if modes is None:
        switched = tuple(mode for key, mode in POOLING_SWITCHES.items() if config.get(key))
        return switched or ("mean",)
    modes = [modes] if isinstance(modes, str) else modes
    return tuple(POOLING_NAMES.get(mode, mode) for mode in modes)


def _read_json(path: Path) -> dict[str, Any]:
    content = read_json(path) if path.exists() else {}
    if not isinstance(content, dict):
        raise SourceError(f"{path} is no JSON object")
    return content
