"""Traces an encoder with the first tracer that supports its architecture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import PretrainedConfig, PreTrainedModel

from embedrt.bundle.graph_rules import EMBEDDING, Ends
from embedrt.errors import UnsupportedModelError
from embedrt_export.graph.nodes import Nodes
from embedrt_export.head import Head
from embedrt_export.heads.head import add_head
from embedrt_export.memory import drop_weights
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
    trace: Callable[[PreTrainedModel, Path], Path]
    """Writes the graph of an encoder to a folder, with files of weights; returns its path."""


TRACERS = (
    Tracer(package="onnxscript", trace=trace_by_dynamo),
    Tracer(package="optimum-onnx", trace=trace_by_optimum),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A traced graph with its head."""

    graph: Path
    dimension: int
    tracer: str
    """The distribution that traced it."""


def trace_model(
    folder: Path, head: Head, config: PretrainedConfig, output: Path, ends: Ends = EMBEDDING
) -> Traced:
    """Trace the encoder in `folder`, add the head, and write the graph to `output`.

    Raises UnsupportedModelError with the reason of each installed tracer if none supports the
    architecture.
    """
    refuse_untraceable(folder, config)
    nodes = Nodes(prefix="head/")
    embedding, dimension = add_head(nodes, ENCODED, config.hidden_size, head)
    nodes.name_output(embedding, *ends.outputs)
    reasons = []
    for tracer in TRACERS:
        try:
            version = metadata.version(tracer.package)
        except metadata.PackageNotFoundError:
            continue
        logger.info("tracing %s by %s %s", config.model_type, tracer.package, version)
        try:
            with TemporaryDirectory(dir=output.parent) as scratch:
                # The encoder is loaded for each tracer, because tracing modifies it.
                traced = _trace_by(tracer, load_encoder(folder, config), Path(scratch))
                with _refusals_of(tracer):
                    graph = finish_model(traced, nodes, dimension, output, ends)
        except _RefusedError as refusal:
            reasons.append(str(refusal))
        else:
            return Traced(graph=graph, dimension=dimension, tracer=tracer.package)
    raise UnsupportedModelError(
        f"{folder} has the architecture {config.model_type}, which is not built from its weights "
        f"and cannot be traced: {'; '.join(reasons)}. {ELSEWHERE}"
    )


class _RefusedError(Exception):
    """A tracer does not support an encoder. The message names the tracer and the reason."""


def _trace_by(tracer: Tracer, encoder: PreTrainedModel, folder: Path) -> Path:
    with _refusals_of(tracer):
        try:
            return tracer.trace(encoder, folder)
        finally:  # torch keeps a model that it has exported
            drop_weights(encoder)


@contextmanager
def _refusals_of(tracer: Tracer) -> Iterator[None]:
    try:
        with quiet(errors=True), torch.no_grad():
            yield
    except Exception as error:  # unsupported architectures raise any kind
        cause = error if isinstance(error, UnsupportedModelError) else _cause(error)
        raise _RefusedError(f"{tracer.package}: {gist(cause)}") from error


def _cause(error: BaseException) -> BaseException:
    """Return the root cause of an error; the outer errors only name stages of the library."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
