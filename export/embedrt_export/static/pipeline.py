"""The export of a static model, stage by stage."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path

from embedrt.bundle.manifest import FORMAT_VERSION, INPUTS, OUTPUTS, Manifest, Precision
from embedrt.bundle.quantization import Quantization, Scheme
from embedrt.bundle.reader import TOKENIZER
from embedrt.bundle.writer import Staging, staged_bundle
from embedrt.text.tokenizer import Tokenizer
from embedrt_export.bundling import (
    default_similarity,
    describe_source,
    facts_of,
    hash_weights,
    name_of,
    publish_proven,
    rehearse_staged,
    versions,
)
from embedrt_export.head import EMBEDDING, Head, fit_head, is_normalized
from embedrt_export.int8.calibration import read_calibration
from embedrt_export.int8.quality import Quality
from embedrt_export.int8.selection import choose_scheme
from embedrt_export.source.find import Source
from embedrt_export.source.static import StaticSettings, read_static
from embedrt_export.stages import STAGES
from embedrt_export.static.graph import draw
from embedrt_export.static.original import StaticOriginal
from embedrt_export.table import quantize

logger = logging.getLogger(__name__)


def export_static(
    source: Source, target: Path, precision: Precision, calibration: Path | None
) -> None:
    """Export a static model to a bundle at `target`, compared with the library it was made with.

    Raises an ExportError that names the cause.
    """
    settings = read_static(source.folder)
    stages = STAGES["embedding"]
    head = fit_head(settings.head, settings.table.dimension, reads=EMBEDDING)
    with staged_bundle(target) as staging:
        graph, dimension = draw(
            staging.scratch / "fp32", settings.table, head, max_tokens=settings.max_tokens
        )
        original = StaticOriginal(settings)
        manifest = _describe(source, settings, head, dimension, precision)
        if source.recipe:
            source.recipe.check(facts_of(manifest))
        rehearse_staged(staging, manifest, settings.tokenizer, stages, original)
        if precision == "int8":
            graph, manifest = _quantize(staging, settings, head, manifest, graph, calibration)
        publish_proven(staging, graph, manifest, stages, original)


def _describe(
    source: Source, settings: StaticSettings, head: Head, dimension: int, precision: Precision
) -> Manifest:
    """Return the manifest without the agreement, the quantization and the files."""
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name_of(source, precision),
        task="embedding",
        inputs=INPUTS["embedding"],
        outputs=OUTPUTS["embedding"],
        source=describe_source(source, hash_weights(source, settings.weight_folders)),
        family=settings.family,
        builder="fused",
        precision=precision,
        dimension=dimension,
        max_tokens=settings.max_tokens,
        max_characters=settings.max_characters,
        truncation_side=settings.truncation_side,
        pooling=("mean",),
        normalized=is_normalized(head),
        similarity=settings.similarity or default_similarity(source),
        prompts=settings.prompts,
        default_prompt_name=settings.default_prompt_name,
        tools=versions(*(["model2vec"] if settings.family == "model2vec" else [])),
        agreement=None,
        quantization=None,
        files={},
    )


def _quantize(
    staging: Staging,
    settings: StaticSettings,
    head: Head,
    manifest: Manifest,
    graph: Path,
    calibration: Path | None,
) -> tuple[Path, Manifest]:
    """Return the graph with the table in int8, and a manifest that records the quality.

    Nothing is fitted: of the calibration texts, only those that are held back are used.
    """
    texts = read_calibration(calibration).held_back
    tokenizer = Tokenizer.of(staging.path / TOKENIZER, manifest)
    table = quantize(settings.table)

    def build(scheme: Scheme) -> Path:
        return draw(staging.scratch / scheme, table, head, max_tokens=settings.max_tokens)[0]

    quantized = choose_scheme(
        ("table",),
        build,
        graph,
        [ids for ids in tokenizer.batch_ids(texts) if ids.size],
        Quality(),
    )
    logger.info("int8 table: %s", quantized.quality)
    quantization = Quantization(
        scheme=quantized.scheme, rejected=(), texts=len(texts), **asdict(quantized.quality)
    )
    return quantized.graph, replace(manifest, quantization=quantization)
