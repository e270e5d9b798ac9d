"""The product with the vocabulary in int8, in the slices of `graph.vocabulary`.

The vectors are quantized once for all slices. Each word has a scale of its own, so that rare words
keep their precision beside frequent ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from embedrt_export.encoder import FloatArray, Linear
from embedrt_export.graph.nodes import Nodes
from embedrt_export.graph.vocabulary import decoder_name, slices
from embedrt_export.int8.scheme import Int8


class SlicedInt8(Int8):
    """int8 with a decoder."""

    def add_decoder(self, nodes: Nodes, table: FloatArray, vectors: str) -> Iterator[str]:
        """Add the logits by slice of the vocabulary, (rows, inputs) to (rows, words of a slice)."""
        names = [decoder_name(index) for index in range(len(slices(len(table))))]
        whole = Linear(table.T, np.zeros(len(table), np.float32))
        read = self.add_input(nodes, names[0], whole, vectors)
        for name, part in zip(names, slices(len(table)), strict=True):
            yield self.add_output(nodes, name, table[part].T, read)
