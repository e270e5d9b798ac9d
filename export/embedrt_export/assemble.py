"""Builds a model's graph, in fp32 or int8, from its settings and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx
from transformers import PretrainedConfig

from embedrt.bundle.manifest import Builder, Scheme
from embedrt.errors import UnsupportedModelError
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import Encoder, TokenTypes
from embedrt_export.families import find_reader, read_encoder
from embedrt_export.graph.float32 import Float32
from embedrt_export.graph.fuse import OPSET, Arithmetic, add_encoder
from embedrt_export.graph.nodes import Nodes
from embedrt_export.head import Head, fit_head, is_normalized
from embedrt_export.heads.head import add_head
from embedrt_export.int8 import scheme as int8
from embedrt_export.int8 import traced as int8_traced
from embedrt_export.int8.calibration import measure_ranges
from embedrt_export.int8.quality import Quality
from embedrt_export.int8.scheme import Int8
from embedrt_export.int8.selection import Quantized, choose_scheme
from embedrt_export.int8.smoothing import smooth_values
from embedrt_export.source.checkpoint import load_tensors
from embedrt_export.source.settings import Settings
from embedrt_export.traced.trace import trace_model


@dataclass(frozen=True, slots=True)
class Built:
    """An fp32 graph and the properties that later stages need."""

    model: onnx.ModelProto
    encoder: Encoder | None
    """The encoder's weights; None for a traced graph."""
    inputs: Mapping[str, str]
    """Name of the input activation of each linear layer in the encoder, by layer name."""
    head: Head
    dimension: int
    positions: int | None
    """Number of positions in the encoder; None if the encoder has no limit."""
    vocabulary: int
    """Number of rows in the token embedding table."""
    tracer: str | None = None
    """Package that traced the encoder; None for a fused graph."""

    @property
    def normalized(self) -> bool:
        """Whether the embedding has length 1."""
        return is_normalized(self.head)

    @property
    def builder(self) -> Builder:
        """How the graph was built."""
        return "fused" if self.encoder else "traced"


def build_graph(settings: Settings, config: PretrainedConfig) -> Built:
    """Build a fused graph from the weights if the family is supported, else trace the model.

    Raises UnsupportedModelError if neither works.
    """
    reader = find_reader(config)
    if reader is None:
        return _trace(settings, config)
    encoder = read_encoder(reader, config, load_tensors(settings.transformer))
    return _draw(encoder, fit_head(settings.head, encoder.hidden))


def with_token_types(built: Built, types: TokenTypes) -> Built:
    """Return the graph for a tokenizer that assigns these token types.

    Raises UnsupportedModelError if the encoder lacks one of the types or was traced.
    """
    if types == TokenTypes():
        return built
    if built.encoder is None:
        raise UnsupportedModelError(
            "the tokenizer gives a text token types other than 0, and a traced encoder supports "
            "only type 0"
        )
    if built.encoder.token_types is None:
        return built
    rows, given = len(built.encoder.token_types), {*types.first, types.rest}
    if max(given) >= rows:
        raise UnsupportedModelError(
            f"the tokenizer gives a text the types {sorted(given)}, and the encoder has {rows}"
        )
    return _draw(replace(built.encoder, types=types), built.head)


def _draw(encoder: Encoder, head: Head) -> Built:
    arithmetic = Float32()
    model, dimension = _fuse(encoder, head, arithmetic)
    onnx.checker.check_model(model, full_check=True)
    return Built(
        model,
        encoder,
        arithmetic.inputs,
        head,
        dimension,
        encoder.positions,
        len(encoder.word_embeddings),
    )


def _trace(settings: Settings, config: PretrainedConfig) -> Built:
    head = fit_head(settings.head, config.hidden_size)
    traced = trace_model(settings.transformer, head, config)
    positions = getattr(config, "max_position_embeddings", None) or -1
    return Built(
        traced.model,
        None,
        {},
        head,
        traced.dimension,
        positions if positions > 0 else None,  # XLNet has -1, and no limit
        config.vocab_size,
        traced.tracer,
    )


def quantize_graph(
    built: Built, fitted: Sequence[TokenIds], held_back: Sequence[TokenIds], least: Quality
) -> Quantized:
    """Quantize with the fastest scheme that reaches the quality `least` on the held-out texts."""
    encoder, head = built.encoder, built.head
    if encoder is None:
        return choose_scheme(
            int8_traced.SCHEMES,
            lambda scheme: int8_traced.quantize_traced(built.model, scheme),
            built.model,
            held_back,
            least,
        )
    encoder, ranges = smooth_values(encoder, measure_ranges(built.model, built.inputs, fitted))

    def build(scheme: Scheme) -> onnx.ModelProto:
        model, _ = _fuse(encoder, head, Int8(scheme, ranges, encoder.activation))
        int8.require_products(model, len(built.inputs))
        return model

    return choose_scheme(
        int8.SCHEMES,
        build,
        built.model,
        held_back,
        least,
    )


def _fuse(encoder: Encoder, head: Head, arithmetic: Arithmetic) -> tuple[onnx.ModelProto, int]:
    nodes = Nodes()
    vectors = add_encoder(nodes, encoder, arithmetic)
    embedding, dimension = add_head(nodes, vectors, encoder.hidden, head)
    nodes.name_output(embedding)
    return nodes.to_model(opset=OPSET, dimension=dimension), dimension
