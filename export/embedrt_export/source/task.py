"""Recognizes the task of a model from its own files."""

from __future__ import annotations

from pathlib import Path

from embedrt.bundle.manifest import Task
from embedrt_export.source.checks import read_object
from embedrt_export.source.modules import MODULES, read_modules
from embedrt_export.source.other_models import (
    CROSS_ENCODER,
    LATE,
    SPARSE,
    find_sign_of_architecture,
    find_signs,
)
from embedrt_export.source.prompts import EXTRAS
from embedrt_export.source.sparse import kinds_of_routes
from embedrt_export.source.transformer import read_transformer_file

# The kinds of model that are exported, beside dense embeddings.
TASKS: dict[str, Task] = {
    CROSS_ENCODER: "reranking",
    SPARSE: "sparse",
    LATE: "late-interaction",
}


def read_task(folder: Path) -> Task:
    """Return the task of the model in `folder`, by the first sign of a kind; default: embeddings.

    A model of an unsupported kind counts as an embedding model, whose reader refuses it by name.
    """
    if not (folder / MODULES).is_file():
        found = find_sign_of_architecture(folder)
        return TASKS.get(found[1], "embedding") if found else "embedding"
    first, *rest = read_modules(folder)
    kinds = [module.kind for module in (first, *rest)]
    signs = find_signs(
        read_object(folder / EXTRAS),
        kinds_of_routes(folder) or kinds,
        read_transformer_file(first.path).content,
    )
    return TASKS.get(signs[0][1], "embedding") if signs else "embedding"
