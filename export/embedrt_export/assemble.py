"""Builds a model's graph, in fp32 or int8, from its settings and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from transformers import PretrainedConfig

from embedrt.bundle.graph_rules import Ends
from embedrt.bundle.manifest import FURTHER_INPUTS, INPUTS, OUTPUTS, Builder, Task, Value
from embedrt.bundle.manifest import Pooling as PoolingMode
from embedrt.bundle.quantization import Scheme
from embedrt.errors import UnsupportedModelError
from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import Encoder, TokenTypes
from embedrt_export.families import find_reader, read_encoder
from embedrt_export.families.classifiers import read_classifier
from embedrt_export.families.masked import read_masked_head
from embedrt_export.graph.arithmetic import Arithmetic
from embedrt_export.graph.float32 import Float32
from embedrt_export.graph.fuse import OPSET, add_encoder
from embedrt_export.graph.nodes import Nodes
from embedrt_export.graph.vocabulary import SlicedFloat32
from embedrt_export.graph.weights import Weights, read_graph, write_graph
from embedrt_export.head import (
    EMBEDDING,
    TOKENS,
    Head,
    fit_head,
    is_normalized,
    leaves_prompt_out,
    pooling_of,
    reads_first,
)
from embedrt_export.heads.head import add_head, add_token_head
from embedrt_export.heads.masked import add_masked_head
from embedrt_export.int8 import scheme as int8
from embedrt_export.int8 import traced as int8_traced
from embedrt_export.int8.calibration import join_ranges, measure_ranges
from embedrt_export.int8.quality import measure_quality
from embedrt_export.int8.scheme import Int8
from embedrt_export.int8.selection import Figures, Measure, Quantized, choose_scheme
from embedrt_export.int8.smoothing import smooth_products, smooth_values
from embedrt_export.int8.vocabulary import SlicedInt8
from embedrt_export.masked import MaskedHead
from embedrt_export.memory import trim
from embedrt_export.source.checkpoint import load_tensors
from embedrt_export.source.settings import Settings
from embedrt_export.traced.trace import trace_model

ReadMasked = Callable[[Encoder], MaskedHead]

# Names of the models whose graphs are never traced, for messages.
NOT_TRACED: dict[Task, str] = {
    "sparse": "sparse encoders",
    "late-interaction": "late interaction models",
}
# The value that the head reads, if it is not all token vectors of a text. In late interaction, the
# head is applied to each token's vector.
READS: dict[Task, str] = {"late-interaction": EMBEDDING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An fp32 graph and the properties that later stages need."""

    task: Task
    graph: Path
    """The graph's file, with the weights file beside it."""
    read_encoder: Callable[[], Encoder] | None
    """Reads the encoder's weights, which are not kept between stages; None for a traced graph."""
    inputs: Mapping[str, str]
    """Name of the input activation of each linear layer in the encoder, by layer name."""
    head: Head
    """Empty with a masked-LM head."""
    masked: ReadMasked | None
    """Reads the masked-LM head of a sparse encoder, for an encoder's word embeddings."""
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
    def pooling(self) -> tuple[PoolingMode, ...]:
        """The pooling modes, in the order of concatenation."""
        return pooling_of(self.head)

    @property
    def builder(self) -> Builder:
        """How the graph was built."""
        return "fused" if self.read_encoder else "traced"


def build_graph(settings: Settings, config: PretrainedConfig, folder: Path) -> Built:
    """Build a fused graph from the weights if the family is supported, else trace the model.

    The graph and its weights are written to `folder`. Raises UnsupportedModelError if neither
    works.
    """
    reader = find_reader(config)
    head = _read_head(settings, config)
    masked = _read_masked(settings, config)
    if reader is None:
        if kind := NOT_TRACED.get(settings.task):
            raise UnsupportedModelError(
                f"embedrt does not export {kind} of the architecture {config.model_type}"
            )
        return _trace(settings, config, head, folder)

    def read() -> Encoder:
        tensors = load_tensors(settings.transformer)
        encoder = read_encoder(reader, config, tensors, settings.max_seq_length)
        return replace(
            encoder,
            first_only=settings.task == "reranking" and reads_first(head),
            hidden_within=settings.hidden_within,
        )

    return _draw(settings.task, folder, read, head, masked)


def inputs_of(
    task: Task, head: Head, types: TokenTypes, *, hides_tokens: bool
) -> tuple[Value, ...]:
    """Return the inputs of a task's graph: token ids and, where the graph reads it, a second one.

    The second input holds the token types, hidden tokens, or the tokens that are pooled.
    """
    further = types.given or hides_tokens or leaves_prompt_out(head)
    return INPUTS[task] + (FURTHER_INPUTS[task] if further else ())


def _read_masked(settings: Settings, config: PretrainedConfig) -> ReadMasked | None:
    """Return the function that reads the masked-LM head; None for other tasks."""
    sparse = settings.sparse
    if sparse is None:
        return None

    def read(encoder: Encoder) -> MaskedHead:
        tensors = load_tensors(settings.transformer)
        return read_masked_head(config, tensors, encoder.word_embeddings, sparse)

    return read


def _read_head(settings: Settings, config: PretrainedConfig) -> Head:
    """Return the modules after the encoder: the model's own, or its family's classifier."""
    if settings.task != "reranking":
        return settings.head
    return read_classifier(config, load_tensors(settings.transformer))


def fit_texts(built: Built, types: TokenTypes, max_tokens: int) -> Built:
    """Return the graph for texts of up to `max_tokens` tokens with these token types.

    Raises UnsupportedModelError if the encoder lacks one of the types or was traced.
    """
    read = built.read_encoder
    if read is None:
        if types != TokenTypes():
            raise UnsupportedModelError(
                "the tokenizer gives a text token types other than 0, and a traced encoder "
                "supports only type 0"
            )
        return built
    encoder = read()
    if encoder.token_types is None:
        types = TokenTypes()
    elif max(given := _numbers_of(types)) >= (rows := len(encoder.token_types)):
        raise UnsupportedModelError(
            f"the tokenizer gives a text the types {sorted(given)}, and the encoder has {rows}"
        )
    fitted = replace(encoder, types=types, max_tokens=max_tokens)
    if (fitted.types, fitted.is_long) == (encoder.types, encoder.is_long):
        return built
    del encoder, fitted  # they keep the weights in memory
    return _draw(
        built.task,
        built.graph.parent,
        lambda: replace(read(), types=types, max_tokens=max_tokens),
        built.head,
        built.masked,
    )


def _numbers_of(types: TokenTypes) -> set[int]:
    return {0, 1} if types.given else {*types.first, types.rest}


def _draw(
    task: Task,
    folder: Path,
    read: Callable[[], Encoder],
    head: Head,
    masked: ReadMasked | None,
) -> Built:
    encoder = read()
    head = fit_head(head, encoder.hidden, reads=READS.get(task, TOKENS))
    arithmetic = SlicedFloat32() if masked else Float32()
    graph, dimension = _fuse(task, folder, encoder, head, masked, arithmetic)
    onnx.checker.check_model(graph, full_check=True)
    return Built(
        task=task,
        graph=graph,
        read_encoder=read,
        inputs=arithmetic.inputs,
        head=head,
        masked=masked,
        dimension=dimension,
        positions=encoder.positions,
        vocabulary=len(encoder.word_embeddings),
    )


def _trace(settings: Settings, config: PretrainedConfig, head: Head, folder: Path) -> Built:
    head = fit_head(head, config.hidden_size)
    ends = _ends(settings.task, inputs_of(settings.task, head, TokenTypes(), hides_tokens=False))
    traced = trace_model(settings.transformer, head, config, folder, ends)
    positions = getattr(config, "max_position_embeddings", None) or -1
    return Built(
        task=settings.task,
        graph=traced.graph,
        read_encoder=None,
        inputs={},
        head=head,
        masked=None,
        dimension=traced.dimension,
        positions=positions if positions > 0 else None,  # XLNet has -1, and no limit
        vocabulary=config.vocab_size,
        tracer=traced.tracer,
    )


def quantize_graph(
    built: Built,
    fitted: Sequence[TokenIds],
    held_back: Sequence[TokenIds],
    least: Figures,
    measure: Measure = measure_quality,
) -> Quantized:
    """Quantize with the fastest scheme that reaches the quality `least` on the held-out texts.

    Each scheme that is tried is written to a folder beside that of the fp32 graph.
    """
    head, read = built.head, built.read_encoder
    folder = built.graph.parent
    if read is None:
        return choose_scheme(
            int8_traced.SCHEMES,
            lambda scheme: int8_traced.quantize_traced(
                built.graph, scheme, folder.with_name(scheme)
            ),
            built.graph,
            held_back,
            least,
            measure,
        )
    ranges = measure_ranges(built.graph, built.inputs, fitted)

    def build(scheme: Scheme) -> Path:
        trim()  # the memory of the previous session
        encoder = read()
        smoothed = smooth_values(encoder, join_ranges(encoder, ranges))
        encoder, smooth = smooth_products(*smoothed)
        gated = encoder.layers[0].gate is not None
        kind = SlicedInt8 if built.masked else Int8
        arithmetic = kind(scheme, smooth, None if gated else encoder.activation)
        place = folder.with_name(scheme)
        graph, _ = _fuse(built.task, place, encoder, head, built.masked, arithmetic)
        int8.require_products(read_graph(graph), len(built.inputs))
        return graph

    return choose_scheme(
        int8.SCHEMES,
        build,
        built.graph,
        held_back,
        least,
        measure,
        by_token=built.task == "late-interaction",
    )


def _fuse(
    task: Task,
    folder: Path,
    encoder: Encoder,
    head: Head,
    masked: ReadMasked | None,
    arithmetic: Arithmetic,
) -> tuple[Path, int]:
    """Write the graph and its weights to `folder`; return its path and the dimension."""
    inputs = inputs_of(task, head, encoder.types, hides_tokens=encoder.hides_tokens)
    ends = _ends(task, inputs)
    by_token = task == "late-interaction"
    with Weights(folder) as weights:
        nodes = Nodes(weights=weights)
        vectors = add_encoder(nodes, encoder, arithmetic)
        if by_token:
            result, dimension = add_token_head(nodes, vectors, encoder.hidden, head)
        elif masked is None:
            result, dimension = add_head(nodes, vectors, encoder.hidden, head)
        else:
            assert isinstance(arithmetic, SlicedFloat32 | SlicedInt8)
            words = masked(encoder)
            result = add_masked_head(nodes, vectors, encoder.hidden, words, arithmetic)
            dimension = words.vocabulary
        nodes.name_output(result, *ends.outputs)
    model = nodes.to_model(opset=OPSET, dimension=dimension, ends=ends, by_token=by_token)
    return write_graph(folder, model), dimension


def _ends(task: Task, inputs: tuple[Value, ...]) -> Ends:
    return Ends(*(tuple(value.name for value in values) for values in (inputs, OUTPUTS[task])))
