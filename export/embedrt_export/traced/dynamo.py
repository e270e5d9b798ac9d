"""Traces an encoder with ``torch.onnx.export``, which needs no architecture-specific config."""

from __future__ import annotations

import inspect
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.export import Dim
from transformers import PreTrainedModel

from embedrt.bundle.graph_rules import INPUT
from embedrt.errors import UnsupportedModelError
from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.nodes import Nodes
from embedrt_export.graph.weights import read_graph
from embedrt_export.traced.attention import BOUNDED
from embedrt_export.traced.finish import ENCODED
from embedrt_export.traced.spectra import replace_transforms

PREFIX = "encoder/"
EXAMPLE = (2, 37)  # the exporter treats sizes 0 and 1 as constants
ALIKE = 1e-4  # largest difference of two implementations of attention, of numbers of about 1


class _Encoder(nn.Module):
    """The encoder with token ids as its only input, none of them padding."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self._encoder = encoder
        self.masked = "attention_mask" in inspect.signature(encoder.forward).parameters

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Shape: (batch, tokens) to (batch, tokens, hidden)."""
        mask = {"attention_mask": torch.ones_like(input_ids)} if self.masked else {}
        hidden = getattr(self._encoder(input_ids=input_ids, **mask), ENCODED, None)
        if hidden is None:
            raise UnsupportedModelError("the encoder gives no vectors of tokens")
        found: torch.Tensor = hidden
        return found


def trace_by_dynamo(encoder: PreTrainedModel, folder: Path) -> Path:
    """Trace `encoder` to a graph in `folder`, with bounded attention if possible; return its path.

    Exceptions of torch propagate. Raises UnsupportedModelError if the encoder gives equal texts
    different vectors.
    """
    encoder.config.use_cache = False  # else the keys and values of a decoder become outputs
    own = encoder.config._attn_implementation  # noqa: SLF001 - it has no public name
    words = getattr(encoder.config, "vocab_size", None)
    if words is None:
        raise UnsupportedModelError("the encoder has no vocabulary")
    ids = torch.arange(EXAMPLE[0] * EXAMPLE[1]).reshape(EXAMPLE) % words
    traced = _Encoder(encoder)
    expected = traced(ids)
    replace_transforms(encoder)
    # A few architectures can only be traced without a mask.
    ways = [(BOUNDED, traced.masked), (own, traced.masked), (own, False)]
    failure: Exception | None = None
    for attention, masked in dict.fromkeys(ways):
        try:
            encoder.set_attn_implementation(attention)
            traced.masked = masked
            if torch.allclose(traced(ids), expected, rtol=ALIKE, atol=ALIKE, equal_nan=True):
                return _trace(traced, ids, folder)
        except Exception as error:  # noqa: BLE001 - architectures raise any kind
            failure = error
    raise failure or UnsupportedModelError("the encoder gives different vectors for the same text")


def _trace(traced: _Encoder, ids: torch.Tensor, folder: Path) -> Path:
    program = torch.onnx.export(
        traced,
        (ids,),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[ENCODED],
        dynamic_shapes=({0: Dim("batch"), 1: Dim("tokens")},),
        verbose=False,
    )
    assert program is not None  # for the type checker: None is returned only without dynamo
    file = folder / "traced.onnx"
    program.save(file, external_data=True)
    for value in program.model.graph.initializers.values():
        value.const_value = None  # torch keeps the program
    model = read_graph(file)
    _prefix_names(model.graph)
    _expand_rotations(model.graph)
    file.write_bytes(model.SerializeToString())
    return file


def _prefix_names(graph: onnx.GraphProto) -> None:
    """Prefix all names, because exported names such as ``embedding`` clash with the head's."""
    kept = {INPUT, ENCODED, ""}

    def prefixed(name: str) -> str:
        return name if name in kept else PREFIX + name

    for node in graph.node:
        node.name = prefixed(node.name)
        node.input[:] = [prefixed(name) for name in node.input]
        node.output[:] = [prefixed(name) for name in node.output]
    for weight in graph.initializer:
        weight.name = prefixed(weight.name)
    del graph.value_info[:]


def _expand_rotations(graph: onnx.GraphProto) -> None:
    """Expand the cosines and sines of each RotaryEmbedding to the batch size.

    The exporter emits them with a batch size of one, which ONNX Runtime refuses. They are expanded
    after they are computed, because ONNX Runtime's Cos rounds a number differently depending on its
    position in the tensor.
    """
    added = Nodes(prefix="rotation/")
    batch = added.add("Shape", INPUT, start=0, end=1)
    shape = added.add("Concat", batch, added.ints(1, 1), axis=0)
    body, repeated = list(added.nodes), {}
    for node in graph.node:
        if node.op_type == "RotaryEmbedding" and len(node.input) == 3:
            for place, name in enumerate(node.input[1:], start=1):
                if name not in repeated:
                    repeated[name] = added.add("Expand", name, shape)
                    body.append(added.nodes[-1])
                node.input[place] = repeated[name]
        body.append(node)
    if repeated:
        del graph.node[:]
        graph.node.extend(body)
        graph.initializer.extend(added.initializers.values())
