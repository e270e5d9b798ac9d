"""The export pipeline: every stage from a model to a published bundle.

find_source      the model's files, in a folder or from a hub         source/
read_settings    settings and head, or a refusal with all reasons     source/
build_graph      the fp32 graph, from the weights or traced           assemble.py, families/,
                                                                      graph/, heads/, traced/
stages.load      the original in torch                                stages.py, proof/
rehearse_staged  the original's results; its weights are released     bundling.py, proof/
fit_texts        the graph again, if the texts require other inputs   assemble.py
quantize_graph   for int8: calibration, schemes, quality              assemble.py, int8/
publish_proven   the bundle, compared with the original, is renamed   bundling.py, proof/
"""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from transformers import PretrainedConfig

from embedrt.arguments import check_choice
from embedrt.bundle.manifest import FORMAT_VERSION, OUTPUTS, Agreement, Manifest, Precision
from embedrt.bundle.writer import staged_bundle
from embedrt.errors import UnsupportedModelError
from embedrt.files import expand
from embedrt.loaded import LoadedBundle
from embedrt_export.assemble import Built, build_graph, fit_texts, inputs_of, quantize_graph
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
from embedrt_export.encoder import TokenTypes
from embedrt_export.int8.calibration import read_calibration
from embedrt_export.int8.selection import Quantized
from embedrt_export.proof.original import Original
from embedrt_export.source.config import own_code, read_config
from embedrt_export.source.find import Source, find_source
from embedrt_export.source.recipe import Recipe
from embedrt_export.source.settings import Settings, read_settings
from embedrt_export.source.static import read_static, static_family
from embedrt_export.stages import STAGES, Stages
from embedrt_export.static.original import StaticOriginal
from embedrt_export.static.pipeline import export_static

SPARE = 8  # tables of positions may have a few rows more than config.json says
LONGEST = 1 << 20  # transformers reports 1e30 for a tokenizer without a limit

logger = logging.getLogger(__name__)


def export_model(
    model: str,
    *,
    output: Path | None = None,
    revision: str | None = None,
    files: Path | None = None,
    precision: Precision = "fp32",
    calibration: Path | None = None,
    ignore_remote_code: bool = False,
) -> Path:
    """Export a model to a bundle and verify it against the library that runs it.

    Parameters
    ----------
    model
        Recipe name, hub id, or folder: see `find_source`.
    output
        Folder of the bundle; ``models/<name>-<precision>`` by default. An existing bundle is
        replaced.
    revision, files
        See `find_source`.
    precision
        ``"fp32"`` or ``"int8"``. An int8 bundle is faster and a quarter of the size. Its quality
        is measured against fp32 on texts held out of the calibration, and the export fails if the
        loss is too large.
    calibration
        File of texts, one per line, that resemble the texts to embed. It replaces the general
        calibration texts that ship with the exporter.
    ignore_remote_code
        Whether a model that comes with code of its author's (``auto_map``) is exported as
        transformers' own architecture of that name. The code is never run, so nothing compares the
        bundle with what it would compute; the manifest records which classes were ignored.

    Returns
    -------
    Path
        The bundle's folder.

    Raises
    ------
    ExportError
        A subclass that names the cause. No files are left behind.

    Notes
    -----
    Each stage is logged at level INFO.
    """
    check_choice("precision", precision, get_args(Precision))
    if calibration is not None and precision == "fp32":
        raise ValueError("calibration is for precision='int8'")
    source = find_source(_at_home(model), revision=revision, files=files and expand(files))
    logger.info("reading %s from %s", source.id, source.folder)
    target = expand(output or Path("models") / name_of(source, precision))
    if static_family(source.folder):
        export_static(source, target, precision, calibration)
        return target
    settings = read_settings(source.folder, source.id)
    stages = STAGES[settings.task]
    config = read_config(settings, ignore_remote_code=ignore_remote_code)
    weights = hash_weights(source, settings.weight_folders)
    with staged_bundle(target) as staging:
        built = build_graph(settings, config, staging.scratch / "fp32")
        oracle = stages.load(settings)
        _require_rows(settings, oracle, built)
        built = _lengthen(settings, oracle, built)
        types = oracle.token_types()
        manifest = _describe(source, settings, config, oracle, types, built, weights, precision)
        longest = _longest(settings, manifest, built)
        oracle.limit(manifest.max_tokens)
        if source.recipe:
            source.recipe.check(
                facts_of(
                    manifest,
                    layers=config.num_hidden_layers,
                    hidden=config.hidden_size,
                    heads=config.num_attention_heads,
                )
            )
        rehearse_staged(staging, manifest, oracle.tokenizer_json(), stages, oracle)
        built = fit_texts(built, types, longest)
        graph = built.graph
        if precision == "int8":
            quantized, manifest = _quantize(
                built, stages, oracle, manifest, source.recipe, calibration
            )
            graph = quantized.graph
        publish_proven(staging, graph, manifest, stages, oracle)
    return target


def _at_home(model: str) -> str:
    return str(expand(model)) if model.startswith("~") else model


def prove_bundle(loaded: LoadedBundle, model: str) -> Agreement:
    """Compare a loaded bundle with the original `model`; raise ProofError if they disagree."""
    source = find_source(_at_home(model))
    if static_family(source.folder):
        return STAGES["embedding"].prove(loaded, StaticOriginal(read_static(source.folder)))
    settings = read_settings(source.folder, source.id)
    task = loaded.manifest.task
    if settings.task != task:
        raise UnsupportedModelError(
            f"{model} is a model for {settings.task}, and the bundle {loaded.manifest.name} is for "
            f"{task}; name the model that the bundle was made from"
        )
    stages = STAGES[task]
    oracle = stages.load(settings)
    oracle.limit(loaded.max_tokens)
    return stages.prove(loaded, oracle)


def _describe(
    source: Source,
    settings: Settings,
    config: PretrainedConfig,
    oracle: Original,
    types: TokenTypes,
    built: Built,
    weights: dict[str, str],
    precision: Precision,
) -> Manifest:
    """Return the manifest without the agreement, the quantization and the files."""
    max_tokens = _max_tokens(settings, oracle, built)
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name_of(source, precision),
        task=settings.task,
        inputs=inputs_of(settings.task, built.head, types, hides_tokens=settings.hidden_within > 0),
        outputs=OUTPUTS[settings.task],
        source=describe_source(source, weights, own_code(settings)),
        family=config.model_type,
        builder=built.builder,
        precision=precision,
        dimension=built.dimension,
        max_tokens=max_tokens,
        truncation_side=oracle.truncation_side,
        pooling=built.pooling,
        normalized=built.normalized,
        similarity=settings.similarity or default_similarity(source),
        prompts=settings.prompts,
        default_prompt_name=settings.default_prompt_name,
        tools=versions(*filter(None, [built.tracer])),
        agreement=None,
        quantization=None,
        files={},
        **STAGES[settings.task].describe(oracle, settings, max_tokens),
    )


def _quantize(
    built: Built,
    stages: Stages,
    oracle: Original,
    manifest: Manifest,
    recipe: Recipe | None,
    calibration: Path | None,
) -> tuple[Quantized, Manifest]:
    """Quantize the graph; return it with a manifest that records the quantization."""
    texts = read_calibration(calibration)
    trial = stages.trial(oracle, texts)
    logger.info("calibrating int8 on %d texts", len(trial.fitted))
    least = stages.least(**recipe.quality) if recipe else stages.least()
    quantized = quantize_graph(built, trial.fitted, trial.held_back, least, trial.measure)
    for reason in quantized.rejected:
        logger.info("rejected %s", reason)
    logger.info("int8 scheme %s: %s", quantized.scheme, quantized.quality)
    return quantized, replace(
        manifest,
        quantization=stages.record(
            scheme=quantized.scheme,
            rejected=quantized.rejected,
            texts=trial.judged,
            **asdict(quantized.quality),
        ),
    )


def _require_rows(settings: Settings, oracle: Original, built: Built) -> None:
    """Raise UnsupportedModelError if a token id exceeds the encoder's embedding table."""
    token, largest = oracle.last_token()
    if largest >= built.vocabulary:
        raise UnsupportedModelError(
            f"{settings.folder} has a tokenizer that needs {largest + 1} rows, for {token!r}, and "
            f"an encoder with {built.vocabulary}: a text with that token would fail. Resize the "
            "encoder (resize_token_embeddings of transformers) or remove the token, then save the "
            "model"
        )


def _lengthen(settings: Settings, oracle: Original, built: Built) -> Built:
    """Return the graph without a limit of positions where the original computes any position.

    Raises UnsupportedModelError if the graph has a table of fewer positions than are needed.
    """
    positions, longest = built.positions, oracle.max_tokens
    if positions is None or longest <= positions or longest > LONGEST:
        return built
    if not oracle.runs(min(longest, positions + SPARE)):
        return built
    if built.builder == "traced":
        return replace(built, positions=None)
    raise UnsupportedModelError(
        f"{settings.folder} takes texts of {longest} tokens, but its rotary positions are scaled "
        f"for max_position_embeddings, {positions}; embedrt supports no further positions. Set "
        f"max_seq_length in sentence_bert_config.json to {positions}"
    )


def _max_tokens(settings: Settings, oracle: Original, built: Built) -> int:
    longest = min(oracle.max_tokens, built.positions or sys.maxsize)
    if longest > LONGEST:
        raise UnsupportedModelError(
            f"{settings.folder} does not say how long a text may be: set max_seq_length in "
            "sentence_bert_config.json"
        )
    if longest < max(1, oracle.special_tokens_added):
        raise UnsupportedModelError(
            f"{settings.folder} truncates texts to {longest} tokens, and the tokenizer adds "
            f"{oracle.special_tokens_added} special tokens to each; set max_seq_length in "
            "sentence_bert_config.json"
        )
    return longest


def _longest(settings: Settings, manifest: Manifest, built: Built) -> int:
    """Return the number of tokens of the longest text that the graph runs."""
    late = manifest.late_interaction
    if late is None:
        return manifest.max_tokens
    expanded = late.expansion.length if late.expansion else 0
    longest = max(manifest.max_tokens, late.query_tokens, late.document_tokens, expanded)
    if built.positions and longest > built.positions:
        raise UnsupportedModelError(
            f"{settings.folder} takes texts of {longest} tokens, and its encoder has "
            f"{built.positions} positions: lower query_length, document_length or the length of "
            "query_expansion in sentence_bert_config.json"
        )
    return longest
