"""Traces an encoder with the first tracer that supports its architecture."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import onnx
import torch
from transformers import PretrainedConfig, PreTrainedModel

from embedrt.errors import UnsupportedModelError
from embedrt_export.graph.nodes import Nodes, check_size
from embedrt_export.head import Head
from embedrt_export.heads.head import add_head
from embedrt_export.quiet import gist, quiet
from embedrt_export.source.loading import load_encoder
from embedrt_export.traced.dynamo import trace_by_dynamo
from embedrt_export.traced.finish import ENCODED, finish_model
from embedrt_export.traced.known import ELSEWHERE, refuse_untraceable
from embedrt_export.traced.optimum import trace_by_optimum

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracer:
    """A library that converts an encoder in torch to a graph."""

    package: str
    """The distribution that the tracer requires; a manifest lists it in `tools`."""
    trace: Callable[[PreTrainedModel], onnx.ModelProto]


TRACERS = (
    Tracer(package="onnxscript", trace=trace_by_dynamo),
    Tracer(package="optimum-onnx", trace=trace_by_optimum),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A traced graph with its head."""

    model: onnx.ModelProto
    dimension: int
    tracer: str
    """The distribution that traced it."""


def trace_model(folder: Path, head: Head, config: PretrainedConfig) -> Traced:
    """Trace the encoder in `folder` and add the head.

    Raises UnsupportedModelError with the reason of each installed tracer if none supports the
    architecture.
    """
    refuse_untraceable(folder, config)
    nodes = Nodes(prefix="head/")
    embedding, dimension = add_head(nodes, ENCODED, config.hidden_size, head)
    nodes.name_output(embedding)
    reasons = []
    for tracer in TRACERS:
        try:
            version = metadata.version(tracer.package)
        except metadata.PackageNotFoundError:
            continue
        logger.info("tracing %s by %s %s", config.model_type, tracer.package, version)
        encoder = load_encoder(folder, config)  # reloaded, because tracing modifies a model
        check_size(sum(weight.numel() * 4 for weight in encoder.parameters()))
        try:
            model = _trace_by(tracer, encoder, nodes, dimension)
        except UnsupportedModelError as refusal:
            reasons.append(str(refusal))
        else:
            return Traced(model=model, dimension=dimension, tracer=tracer.package)
    raise UnsupportedModelError(
        f"{folder} has the architecture {config.model_type}, which is not built from its weights "
        f"and cannot be traced: {'; '.join(reasons)}. {ELSEWHERE}"
    )


def _trace_by(
    tracer: Tracer, encoder: PreTrainedModel, head: Nodes, dimension: int
) -> onnx.ModelProto:
    try:
        with quiet(errors=True), torch.no_grad():
            return finish_model(tracer.trace(encoder), head, dimension)
    except Exception as error:  # unsupported architectures raise any kind
        cause = error if isinstance(error, UnsupportedModelError) else _cause(error)
        raise UnsupportedModelError(f"{tracer.package}: {gist(cause)}") from error


def _cause(error: BaseException) -> BaseException:
    """Return the root cause of an error; the outer errors only name stages of the library."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
