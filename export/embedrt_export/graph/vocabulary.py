"""The product with the vocabulary, in slices of it.

The logits of a text of 512 tokens and 30,522 words take 60 MB; those of a slice take 4. A table of
word embeddings that is also the decoder is stored once, in the same slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from embedrt_export.encoder import FloatArray
from embedrt_export.graph.arithmetic import Arithmetic
from embedrt_export.graph.float32 import Float32
from embedrt_export.graph.nodes import Nodes

WORDS_IN_A_SLICE = 2048
MOST_SLICES = 32


class VocabularyArithmetic(Arithmetic, Protocol):
    """The arithmetic of an encoder with a decoder."""

    def add_decoder(self, nodes: Nodes, table: FloatArray, vectors: str) -> Iterator[str]:
        """Add the logits by slice of the vocabulary, (rows, inputs) to (rows, words of a slice)."""


def slices(words: int) -> list[slice]:
    """Return slices of equal size that cover a vocabulary; the last one may be smaller."""
    size = max(WORDS_IN_A_SLICE, -(-words // MOST_SLICES))
    return [slice(start, min(start + size, words)) for start in range(0, words, size)]


def decoder_name(index: int) -> str:
    """Return the name of the layer that gives a slice's logits."""
    return f"slice_{index}.decoder"


class SlicedFloat32(Float32):
    """fp32 with a table of word embeddings in slices."""

    def add_embedding(self, nodes: Nodes, name: str, table: FloatArray, ids: str) -> str:
        """Add a lookup in the slices, ids (batch, tokens) to (batch, tokens, embedded)."""
        parts = slices(len(table))
        if len(parts) == 1:
            return super().add_embedding(nodes, f"{name}_0", table, ids)
        size = nodes.integer(parts[0].stop)
        row = nodes.add("Mod", ids, size)
        by_token = nodes.add("Unsqueeze", ids, nodes.ints(-1))
        last = nodes.add("Min", row, nodes.integer(parts[-1].stop - parts[-1].start - 1))
        found = ""
        for index, part in enumerate(parts):
            stored = nodes.weight(f"{name}_{index}", table[part])
            rows = nodes.add("Gather", stored, last if index == len(parts) - 1 else row)
            if index:
                inside = nodes.add("GreaterOrEqual", by_token, nodes.integer(part.start))
                rows = nodes.add("Where", inside, rows, found)
            found = rows
        return found

    def add_decoder(self, nodes: Nodes, table: FloatArray, vectors: str) -> Iterator[str]:
        """Add the logits by slice of the vocabulary, (rows, inputs) to (rows, words of a slice)."""
        for index, part in enumerate(slices(len(table))):
            name = decoder_name(index)
            self.inputs[name] = vectors
            stored = nodes.weight(name, table[part])
            yield nodes.add("Gemm", vectors, stored, transB=1)
