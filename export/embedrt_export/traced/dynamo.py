"""Tracing with PyTorch's own exporter, which follows the model's code and knows no architecture."""

from __future__ import annotations

import onnx
import torch
from torch import nn
from torch.export import Dim
from transformers import PreTrainedModel

from embedrt.bundle.graph_rules import INPUT
from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.nodes import Nodes
from embedrt_export.traced.finish import ENCODED

PREFIX = "encoder/"
EXAMPLE = (2, 37)  # neither 0 nor 1, which the exporter takes for constants


class _Encoder(nn.Module):
    """The encoder as a bundle runs it: of ids alone, none of them padding."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Shape: (batch, tokens) to (batch, tokens, hidden)."""
        encoded = self._encoder(input_ids=input_ids, attention_mask=torch.ones_like(input_ids))
        hidden: torch.Tensor = encoded.last_hidden_state
        return hidden


def trace_by_dynamo(encoder: PreTrainedModel) -> onnx.ModelProto:
    """Trace `encoder`; whatever torch raises passes through."""
    encoder.config.use_cache = False  # of a decoder, whose keys and values would be outputs
    ids = torch.arange(EXAMPLE[0] * EXAMPLE[1]).reshape(EXAMPLE) % encoder.config.vocab_size
    program = torch.onnx.export(
        _Encoder(encoder),
        (ids,),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[ENCODED],
        dynamic_shapes=({0: Dim("batch"), 1: Dim("tokens")},),
        verbose=False,
    )
    assert program is not None  # for the type checker: it is None for the older exporter
    model = program.model_proto
    _prefix_names(model.graph)
    _expand_rotations(model.graph)
    return model


def _prefix_names(graph: onnx.GraphProto) -> None:
    """Keep names such as ``embedding``, which this exporter makes of functions, from ours."""
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
    """Repeat what RotaryEmbedding multiplies by for every text of a batch.

    The exporter leaves the cosines and sines at a batch of one, which ONNX Runtime refuses. They
    are repeated after they are computed, not before: its Cos gives a number other bytes by where
    in the tensor it stands.
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
