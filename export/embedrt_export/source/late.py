"""Reads the settings of a late interaction model: its modules, lengths and skipped tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from embedrt.bundle.late_interaction import TokenScore
from embedrt.pair import TextKind
from embedrt_export.head import TOKENS
from embedrt_export.source.checks import JsonObject, check_object, read_object, refusal, refuse_for
from embedrt_export.source.embedding import read_head
from embedrt_export.source.head import check_modules
from embedrt_export.source.keys import MODEL
from embedrt_export.source.late_keys import MULTI_VECTOR_MASK, TOKEN_NORMALIZE
from embedrt_export.source.model import ExpansionSettings, LateSettings, Settings
from embedrt_export.source.modules import MODULES, Module, foreign_modules, read_modules
from embedrt_export.source.other_models import LATE, refuse_adapter, refuse_folder
from embedrt_export.source.prompts import EXTRAS, read_prompts
from embedrt_export.source.pylate import LateFiles, is_of_pylate, read_pylate
from embedrt_export.source.transformer import check_transformer, read_transformer_file

MASK = "MultiVectorMask"
KINDS = ("Dense", "Normalize", MASK)
STRATEGIES = ("fixed", "min")
PLACES = ("module_input_name", "module_output_name")
DEFAULT_TASKS = ["document"]


def read_late(folder: Path) -> Settings:
    """Read the settings of the late interaction model in `folder`, and the weights of its head.

    Raises SourceError if a value in its files is of the wrong kind, and UnsupportedModelError with
    all reasons why the model cannot be exported.
    """
    if not (folder / MODULES).is_file():
        refuse_folder(folder)
    file = folder / EXTRAS
    files = _read_files(folder, file)
    model, modules = files.model, files.modules
    first, *rest = modules
    if (kind := model.get("model_type")) != "MultiVectorEncoder":
        raise refusal(folder, f"it is {LATE}, and its model_type is {kind}, not MultiVectorEncoder")
    kinds = [module.kind for module in rest]
    if first.kind != "Transformer" or kinds.count(MASK) != 1 or not {*kinds} <= {*KINDS}:
        raise refusal(
            folder,
            f"it is {LATE}, and its modules are {', '.join(module.kind for module in modules)}; "
            "embedrt exports those of a Transformer, Dense and Normalize modules, and a "
            f"{MASK}",
        )
    mask = next(module for module in rest if module.kind == MASK)
    transformer = read_transformer_file(first.path)
    transformer = replace(transformer, content={**files.defaults, **transformer.content})
    head = [_of_each_token(module) for module in rest if module.kind != MASK]
    score = model.get("similarity_fn_name") or "maxsim"  # the default of sentence-transformers
    reasons = foreign_modules(modules)
    reasons += check_transformer(folder, first.path, transformer, "late-interaction")
    reasons += check_object(folder, mask.config_file, mask.config, MULTI_VECTOR_MASK)
    reasons += check_object(folder, file, model, MODEL)
    reasons += _check_head(folder, rest)
    reasons += check_modules(folder, head)
    reasons += _check_lengths(transformer.content)
    reasons += _check_tasks(mask)
    if score not in get_args(TokenScore):
        reasons.append(f"its similarity_fn_name {score!r} is not one of {get_args(TokenScore)}")
    refuse_for(folder, reasons)
    refuse_adapter(first.path)
    prompts, default_prompt_name = read_prompts(model, file)
    return Settings(
        task="late-interaction",
        folder=folder,
        transformer=first.path,
        config_changes=transformer.config_changes,
        max_seq_length=transformer.content.get("max_seq_length"),
        head=read_head(head, {}),
        weight_folders=(first.path, *(m.path for m in rest if m.kind == "Dense")),
        similarity="dot",
        prompts=prompts,
        default_prompt_name=default_prompt_name,
        late=LateSettings(
            score=cast("TokenScore", score),
            expansion=_read_expansion(transformer.content),
            skipped=tuple(mask.config.get("skiplist_words") or ()),
            skipped_in=tuple(kind for kind in get_args(TextKind) if kind in _tasks_of(mask)),
        ),
    )


def _read_files(folder: Path, file: Path) -> LateFiles:
    """Return the files in `folder`; `file` is the one that describes the model."""
    model, modules = read_object(file), read_modules(folder)
    if is_of_pylate(model):
        return read_pylate(folder, file, model, modules)
    return LateFiles(model=model, defaults={}, modules=modules)


def _check_head(folder: Path, modules: Sequence[Module]) -> list[str]:
    """Return the reasons why Normalize and Dense modules are refused."""
    reasons = list[str]()
    for module in modules:
        if module.kind == "Normalize":
            # By default, the module normalizes the sentence's embedding.
            config = {"module_input_name": "sentence_embedding", **module.config}
            reasons += check_object(folder, module.config_file, config, TOKEN_NORMALIZE)
        elif module.kind == "Dense":
            reasons += _check_places(folder, module)
    return reasons


def _check_tasks(mask: Module) -> list[str]:
    """Return the reason why the tasks of the skip list are refused, if they are."""
    unknown = {*_tasks_of(mask)} - {*get_args(TextKind)}
    if not unknown:
        return []
    return [f"its skiplist_tasks has {min(unknown)!r}, and not only query and document"]


def _check_places(folder: Path, module: Module) -> list[str]:
    """Return the reasons why a Dense module that does not read token vectors is refused."""
    label = module.config_file.relative_to(folder)
    return [
        f"{label} sets {name} to {module.config[name]!r}, and embedrt supports only {TOKENS} in "
        "late interaction models"
        for name in PLACES
        if module.config.get(name) not in (None, TOKENS)
    ]


def _of_each_token(module: Module) -> Module:
    """Return the module with the embedding as its input, which here is each token's vector."""
    config = {name: value for name, value in module.config.items() if name not in PLACES}
    return replace(module, config=config)


def _check_lengths(content: JsonObject) -> list[str]:
    """Return the reasons why the lengths of texts are refused."""
    reasons = []
    calls = content.get("processing_kwargs") or {}
    if any("max_length" in (calls.get(name) or {}) for name in ("text", "common")):
        reasons.append(
            "its processing_kwargs set max_length, which would truncate queries and documents alike"
        )
    expansion = content.get("query_expansion")
    if expansion is None:
        return reasons
    if expansion.get("strategy") not in STRATEGIES:
        known = " or ".join(STRATEGIES)
        reasons.append(
            f"its query_expansion has the strategy {expansion.get('strategy')!r}, not {known}"
        )
    if "length" not in expansion:
        reasons.append("its query_expansion has no length")
    elif (most := content.get("query_length")) is not None and most < expansion["length"]:
        reasons.append(f"its query_length of {most} is less than the length of its query_expansion")
    return reasons


def _read_expansion(content: JsonObject) -> ExpansionSettings | None:
    expansion = content.get("query_expansion")
    if expansion is None:
        return None
    return ExpansionSettings(
        length=expansion["length"],
        token=expansion.get("token"),
        attended=expansion.get("attend", False),
    )


def _tasks_of(mask: Module) -> list[str]:
    tasks = mask.config.get("skiplist_tasks") or DEFAULT_TASKS
    return [tasks] if isinstance(tasks, str) else list(tasks)
