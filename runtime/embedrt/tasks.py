"""The classes that load the bundles of each task, imported on demand."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from embedrt.bundle.manifest import Task
from embedrt.bundle.reader import Bundle
from embedrt.loaded import CLASSES, LoadedBundle, LoadOptions

MODULES: dict[Task, str] = {
    "embedding": "embedrt.embedder",
    "reranking": "embedrt.reranker",
    "sparse": "embedrt.sparse",
    "late-interaction": "embedrt.multi_vector",
}


def class_of(task: Task) -> type[Any]:
    """Return the class that loads the bundles of a task: `Embedder`, `Reranker`, ..."""
    found: type[Any] = getattr(import_module(MODULES[task]), CLASSES[task])
    return found


def load_any(bundle: Bundle, options: LoadOptions | None = None) -> LoadedBundle:
    """Load a bundle of any task by the class for it. Raises BundleError."""
    loaded: LoadedBundle = class_of(bundle.manifest.task)(bundle, options)
    return loaded
