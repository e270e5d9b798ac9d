"""embedrt's bundles, written by its exporter."""

from __future__ import annotations

from pathlib import Path

from embedrt.bundle.manifest import Precision
from embedrt_export import export_model
from embedrt_export.source.recipe import load_recipes

ENVIRONMENT = "harness"
ARTIFACTS = {"embedrt-fp32": "source", "embedrt-int8": "source"}
OF_THIS_CHECKOUT = True


def prepare(artifact: str, model: str, needed: Path, output: Path) -> None:
    """Export the model from its files."""
    output.rmdir()
    precision: Precision = "int8" if artifact.endswith("int8") else "fp32"
    recipe = load_recipes().get(model)
    if recipe is not None and recipe.package:
        export_model(model, files=needed, output=output, precision=precision)
    else:  # the recipe pins the published weights; these are random
        export_model(str(needed), output=output, precision=precision)
