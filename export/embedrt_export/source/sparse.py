"""Reads the settings of a sparse encoder: its modules, or those behind a `Router`.

In a model without inference for queries, a `Router` routes documents to a masked-LM model and
queries to a table of weights (``SparseStaticEmbedding``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from embedrt.bundle.manifest import SparseActivation, SparsePooling
from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import FloatArray
from embedrt_export.masked import SpladePooling
from embedrt_export.source.checkpoint import load_tensors
from embedrt_export.source.checks import JsonObject, check_object, read_object, refusal, refuse_for
from embedrt_export.source.embedding import read_similarity
from embedrt_export.source.keys import MODEL
from embedrt_export.source.model import QueryTable, Settings, SparseSettings
from embedrt_export.source.modules import Module, foreign_modules, read_module, read_modules
from embedrt_export.source.other_models import refuse_adapter
from embedrt_export.source.prompts import EXTRAS, read_prompts
from embedrt_export.source.sparse_keys import ROUTER, ROUTES, SPARSE_STATIC, SPLADE_POOLING
from embedrt_export.source.transformer import check_transformer, read_transformer_file

ROUTER_FILE = "router_config.json"
ROUTERS = ("Router", "Asym")
TRANSFORMERS = ("Transformer", "MLMTransformer")
QUERY, DOCUMENT = "query", "document"


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The modules for documents and for queries, which are the same without a router."""

    documents: list[Module]
    queries: list[Module]
    default: str = DOCUMENT
    """The route of a text that is neither a query nor a document."""

    @property
    def table(self) -> Module | None:
        """The table of weights for queries; None if they use the modules of documents."""
        return self.queries[0] if self.queries != self.documents else None

    @property
    def all_modules(self) -> list[Module]:
        """All modules, each once."""
        return list({module.path: module for module in (*self.documents, *self.queries)}.values())


def read_sparse(folder: Path) -> Settings:
    """Read the settings of the sparse encoder in `folder`, and the weights of its queries.

    Raises SourceError if a value in its files is of the wrong kind, and UnsupportedModelError with
    all reasons why the model cannot be exported.
    """
    routes = _read_routes(folder)
    if not _is_splade(routes.documents):
        raise _refuse(folder, "modules", routes.documents, "a Transformer and a SpladePooling")
    kinds = [module.kind for module in routes.queries]
    if routes.queries != routes.documents and kinds != ["SparseStaticEmbedding"]:
        wanted = "a SparseStaticEmbedding or the modules of its documents"
        raise _refuse(folder, "modules for queries", routes.queries, wanted)
    first, pooling = routes.documents
    file = folder / EXTRAS
    model = read_object(file)
    transformer = read_transformer_file(first.path)
    reasons = foreign_modules(routes.all_modules)
    reasons += _check_task(first, transformer.content)
    reasons += check_transformer(folder, first.path, transformer, "sparse")
    reasons += check_object(folder, pooling.config_file, pooling.config, SPLADE_POOLING)
    reasons += check_object(folder, file, model, MODEL)
    reasons += _check_pooling(pooling)
    similarity, unknown = read_similarity(model)
    reasons += unknown
    if table := routes.table:
        reasons += check_object(folder, table.config_file, table.config, SPARSE_STATIC)
    refuse_for(folder, reasons)
    refuse_adapter(first.path)
    prompts, default_prompt_name = read_prompts(model, file)
    return Settings(
        task="sparse",
        folder=folder,
        transformer=first.path,
        config_changes=transformer.config_changes,
        max_seq_length=transformer.content.get("max_seq_length"),
        head=(),
        weight_folders=(first.path, *([table.path] if table else [])),
        similarity=similarity or "dot",  # sentence-transformers' default
        prompts=prompts,
        default_prompt_name=default_prompt_name,
        sparse=SparseSettings(
            pooling=SpladePooling(**_pooling_of(pooling)),
            max_active_dims=model.get("max_active_dims"),
            queries=_read_table(table, routes.default) if table else None,
        ),
    )


def kinds_of_routes(folder: Path) -> list[str]:
    """Return the kinds of the modules behind a router in `folder`; none if there is no router."""
    first, *rest = read_modules(folder)
    if first.kind not in ROUTERS or rest:
        return []
    types = _read_router(folder, first)[1].get("types", {})
    return [str(kind).rpartition(".")[2] for kind in types.values()]


def _read_routes(folder: Path) -> Routes:
    first, *rest = modules = read_modules(folder)
    if first.kind not in ROUTERS or rest:
        return Routes(documents=modules, queries=modules)
    file, router = _read_router(folder, first)
    reasons = check_object(folder, file, router, ROUTER)
    structure, types = router.get("structure", {}), router.get("types", {})
    parameters = router.get("parameters", {})
    if structure.keys() != {QUERY, DOCUMENT}:
        reasons.append(f"its router has the routes {sorted(structure)}, not query and document")
    refuse_for(folder, reasons)
    default = parameters.get("default_route")
    if default is None and parameters.get("allow_empty_key", True):
        default = next(iter(structure))
    if default not in structure:
        raise UnsupportedModelError(
            f"{folder} cannot be exported: its router has no default_route, so that encode fails "
            "without a task; set it in the router's config"
        )

    def read(names: Sequence[str]) -> list[Module]:
        place = first.path.relative_to(folder)
        return [read_module(folder, types[name], str(place / name)) for name in names]

    return Routes(
        documents=read(structure[DOCUMENT]), queries=read(structure[QUERY]), default=default
    )


def _read_router(folder: Path, router: Module) -> tuple[Path, JsonObject]:
    """Return the settings of a router and their file, which is config.json in older models."""
    file = router.path / ROUTER_FILE
    found = read_object(file)
    if not found:
        file, found = router.config_file, router.config
    # The code below relies on the types of these values.
    check_object(folder, file, found, ROUTES)
    return file, found


def _is_splade(modules: Sequence[Module]) -> bool:
    kinds = [module.kind for module in modules]
    return len(kinds) == 2 and kinds[0] in TRANSFORMERS and kinds[1] == "SpladePooling"


def _refuse(
    folder: Path, what: str, modules: Sequence[Module], wanted: str
) -> UnsupportedModelError:
    kinds = ", ".join(module.kind for module in modules) or "none"
    return refusal(
        folder,
        f"it is a sparse encoder whose {what} are {kinds}, and embedrt exports those of {wanted}",
    )


def _pooling_of(pooling: Module) -> dict[str, Any]:
    names = {"strategy": "pooling_strategy", "activation": "activation_function"}
    return {name: pooling.config[key] for name, key in names.items() if key in pooling.config}


def _check_pooling(pooling: Module) -> list[str]:
    """Return the reasons why the values of a SpladePooling are unknown."""
    known = {"strategy": get_args(SparsePooling), "activation": get_args(SparseActivation)}
    return [
        f"its SpladePooling has the {name} {value!r}, not one of {', '.join(known[name])}"
        for name, value in _pooling_of(pooling).items()
        if value not in known[name]
    ]


def _check_task(first: Module, content: JsonObject) -> list[str]:
    """Return the reason why the task of the transformer is refused, if it is."""
    implied = "fill-mask" if first.kind == "MLMTransformer" else None
    task = content.get("transformer_task", implied)
    return [] if task == "fill-mask" else [f"its transformer_task is {task!r}, not fill-mask"]


def _read_table(table: Module, default: str) -> QueryTable:
    weights: FloatArray = load_tensors(table.path).array("weight", axes=1)
    return QueryTable(folder=table.path, weights=weights, by_default=default == QUERY)
