"""The steps that all exports share: from a model's facts to the published bundle."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from embedrt import Bundle
from embedrt.bundle.decoding import REMEDY
from embedrt.bundle.graph_rules import Ends, graph_problems
from embedrt.bundle.manifest import Manifest, Precision, Similarity
from embedrt.bundle.manifest import Source as ManifestSource
from embedrt.bundle.reader import CARD, GRAPH, PROBES, TOKENIZER, describe_file
from embedrt.bundle.weights import WEIGHTS
from embedrt.bundle.writer import Staging
from embedrt.errors import BundleError, NonFiniteEmbeddingError, ProofError, UnsupportedModelError
from embedrt.loaded import LoadOptions
from embedrt.tasks import load_any
from embedrt.text.tokenizer import Tokenizer
from embedrt_export.card import model_card
from embedrt_export.quiet import quiet
from embedrt_export.source.card import read_license
from embedrt_export.source.checkpoint import weight_files
from embedrt_export.source.find import Source
from embedrt_export.source.recipe import Fact
from embedrt_export.stages import Stages

TOOLS = (
    "embedrt",
    "onnx",
    "onnxruntime",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)

logger = logging.getLogger(__name__)


def name_of(source: Source, precision: Precision) -> str:
    """Return the name of a bundle."""
    name = source.recipe.name if source.recipe else source.id.rpartition("/")[2]
    return f"{name}-{precision}"


def hash_weights(source: Source, folders: Iterable[Path]) -> dict[str, str]:
    """Return the sha256 of each weight file, by path in the model's folder.

    Raises RecipeMismatchError if they are not the recipe's.
    """
    weights = {
        str(file.relative_to(source.folder)): describe_file(file).sha256
        for folder in folders
        for file in weight_files(folder)
    }
    if source.recipe:
        source.recipe.check_weights(weights)
    return weights


def describe_source(
    source: Source, weights: dict[str, str], ignored_code: tuple[str, ...] = ()
) -> ManifestSource:
    """Return the manifest's record of the origin of a model."""
    recipe = source.recipe
    license_ = recipe.license if recipe and recipe.license else read_license(source.folder)
    return ManifestSource(
        id=source.id,
        origin=source.origin,
        revision=source.revision,
        license=license_,
        weights=weights,
        ignored_code=ignored_code,
    )


def default_similarity(source: Source) -> Similarity:
    """Return the similarity for a model whose files set none: the recipe's, else cosine."""
    expected = source.recipe.expect.get("similarity") if source.recipe else None
    return "dot" if expected == "dot" else "cosine"


def facts_of(
    manifest: Manifest, *, layers: int = 0, hidden: int | None = None, heads: int = 0
) -> dict[str, Fact]:
    """Return the values that a recipe can check, by the recipe's names for them.

    By default, those of a model without an encoder.
    """
    return {
        "family": manifest.family,
        "layers": layers,
        "hidden": manifest.dimension if hidden is None else hidden,
        "heads": heads,
        "dimension": manifest.dimension,
        "max_tokens": manifest.max_tokens,
        "pooling": list(manifest.pooling),
        "normalized": manifest.normalized,
        "similarity": manifest.similarity,
        "prompts": manifest.prompts,
    }


def versions(*others: str) -> dict[str, str]:
    """Return the versions of the packages that make bundles, and of `others`."""
    return {tool: metadata.version(tool) for tool in (*TOOLS, *others)}


def rehearse_staged(
    staging: Staging, manifest: Manifest, tokenizer: str, stages: Stages, original: Any
) -> None:
    """Add the tokenizer and the probes, and run the texts of the comparison with the original.

    The texts are tokenized with the bundle's tokenizer. Afterwards the original's weights are
    released, so that they are not in memory during the later stages.
    """
    staging.add(TOKENIZER, tokenizer.encode())
    staging.add(PROBES, stages.probes(original))
    staging.add(CARD, b"")
    logger.info("running the texts of the comparison in %s", original.name)
    with _faults_of(manifest):
        counter = Tokenizer.of(staging.path / TOKENIZER, manifest)
        with quiet():
            stages.rehearse(original, manifest.max_tokens, counter.count)
    original.release()


def publish_proven(
    staging: Staging, graph: Path, manifest: Manifest, stages: Stages, original: Any
) -> None:
    """Compare the bundle of a finished graph with the original, and publish it if they agree."""
    size = graph.stat().st_size + graph.with_name(WEIGHTS).stat().st_size
    logger.info("writing a %s graph of %d bytes", manifest.builder, size)
    staging.take_graph(graph)
    _check_graph(staging.path, manifest)
    manifest = _prove(staging, manifest, stages, original)
    staging.add(CARD, model_card(manifest).encode())
    staging.seal(manifest)
    staging.publish()


def _check_graph(bundle: Path, manifest: Manifest) -> None:
    """Raise UnsupportedModelError if the finished graph breaks the rules for bundles."""
    size = (bundle / WEIGHTS).stat().st_size
    problems = graph_problems(bundle / GRAPH, size, Ends.of(manifest))
    if problems:
        raise UnsupportedModelError(
            f"the graph of the architecture {manifest.family} breaks the rules for bundles: "
            f"{'; '.join(problems)}. Use sentence-transformers for this model, or another one"
        )


def _prove(staging: Staging, manifest: Manifest, stages: Stages, original: Any) -> Manifest:
    """Verify the staged bundle in ONNX Runtime; return the manifest with the agreement.

    The kernels run only bundles whose agreement is known, even where EMBEDRT_KERNELS requires them.
    """
    staging.seal(manifest)
    logger.info("comparing the bundle with %s", original.name)
    bundle, options = Bundle.open(staging.path), LoadOptions(kernels="off")
    with _faults_of(manifest), load_any(bundle, options) as loaded:
        agreement = stages.prove(loaded, original)
    logger.info(
        "the bundle agrees: largest difference %.1e, smallest cosine %.7f, same bytes alone and in "
        "batches",
        agreement.max_difference,
        agreement.min_cosine,
    )
    return replace(manifest, agreement=agreement)


@contextmanager
def _faults_of(manifest: Manifest) -> Iterator[None]:
    """Report faults of the bundle as ProofError."""
    try:
        yield
    except (BundleError, NonFiniteEmbeddingError) as error:
        raise ProofError(
            f"the bundle of {manifest.source.id} does not run: "
            f"{str(error).removesuffix(f'; {REMEDY}')}. Nothing was written"
        ) from error
