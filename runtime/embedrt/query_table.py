"""Queries without inference: a table with one weight per token.

Models with ``SparseStaticEmbedding`` of sentence-transformers run the graph for documents only. The
table is a tensor of the graph, in the weights file, that no node reads.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.decoding import REMEDY
from embedrt.bundle.memory import load_file
from embedrt.bundle.protobuf import GRAPH_INITIALIZER, Messages, find_graph
from embedrt.bundle.reader import Bundle
from embedrt.bundle.weights import WEIGHTS, find_tensor
from embedrt.errors import BundleCorruptError
from embedrt.sparse_rows import Terms, terms_of
from embedrt.text.tokenizer import Tokenizer

QUERY_WEIGHTS = "query_weights"
"""The name of the tensor. Its shape: (vocabulary,), float32."""


class QueryTable:
    """Computes the results of queries from the table."""

    def __init__(self, weights: NDArray[np.float32]) -> None:
        self._weights = weights

    @classmethod
    def of(cls, bundle: Bundle, tokenizer: Tokenizer) -> Self:
        """Return the table of a bundle, which has all tokens of the tokenizer.

        Raises BundleCorruptError if there is none of the right size.
        """
        with load_file(bundle.graph) as data:
            messages, (graph, _) = Messages(data), find_graph(data)
            tensors = [s for number, s in messages.fields(graph) if number == GRAPH_INITIALIZER]
            place = find_tensor(messages, tensors, QUERY_WEIGHTS, bundle.weights_size or 0)
        words = bundle.manifest.dimension
        expected = 4 * words
        if place is None or place.stop - place.start != expected:
            raise BundleCorruptError(
                f"{bundle.graph} has no {QUERY_WEIGHTS} of {expected} bytes in {WEIGHTS}; {REMEDY}"
            )
        if (token := tokenizer.largest_id()) >= words:
            raise BundleCorruptError(
                f"{bundle.tokenizer} has the token id {token}, and {QUERY_WEIGHTS} of "
                f"{bundle.graph} has {words} rows; {REMEDY}"
            )
        with (bundle.path / WEIGHTS).open("rb") as file:
            file.seek(place.start)
            return cls(np.frombuffer(file.read(expected), "<f4"))

    def get(self, key: bytes) -> Terms:
        """Return the terms of a query with these token ids."""
        ids = np.unique(np.frombuffer(key, np.int64))
        (terms,) = terms_of(self._weights[ids][None])
        terms["index"] = ids[terms["index"]]
        return terms

    def put(self, key: bytes, vector: Terms) -> None:
        """Do nothing, because all results are known."""
