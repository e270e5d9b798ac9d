"""The reference for sparse encoders: the original in sentence-transformers, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedrt.bundle.manifest import MAX_TOKENS, QueryWeights, Sparsity
from embedrt.errors import UnsupportedModelError
from embedrt.pair import Text
from embedrt.sparse import SparseEncoder
from embedrt_export.encoder import FloatArray
from embedrt_export.proof.calls import DOCUMENTS, QUERIES, Call
from embedrt_export.proof.oracle import Oracle
from embedrt_export.proof.original import plain_json
from embedrt_export.quiet import quiet
from embedrt_export.source.loading import load_sparse_encoder
from embedrt_export.source.settings import Settings
from embedrt_export.source.sparse import DOCUMENT, QUERY, ROUTERS


class SparseOracle(Oracle):
    """The original sparse encoder. Its rows are dense, and none of their values is dropped."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, load_sparse_encoder)
        self.max_active_dims: int | None = self._model.max_active_dims
        self._model.max_active_dims = None
        self._table: Any = None
        router = self._model[0]
        if type(router).__name__ in ROUTERS:
            queries = router.sub_modules[QUERY][0]
            if queries is not router.sub_modules[DOCUMENT][0]:
                self._table = queries
                self._require_one_tokenizer()
        self.main_calls = (DOCUMENTS, QUERIES) if self._table is not None else (DOCUMENTS,)

    def sparsity(self, settings: Settings) -> Sparsity:
        """Return the manifest's record of a sparse encoder."""
        sparse = settings.sparse
        assert sparse is not None
        table = sparse.queries
        queries = None
        if table is not None:
            longest = int(min(self._table.tokenizer.model_max_length, MAX_TOKENS))
            queries = QueryWeights(max_tokens=longest, by_default=table.by_default)
        return Sparsity(
            pooling=sparse.pooling.strategy,
            activation=sparse.pooling.activation,
            max_active_dims=self.max_active_dims,
            queries=queries,
        )

    def takes(self, text: str, call: Call) -> bool:
        """Whether a text has tokens in this call, or is a query of a table, which needs none."""
        return super().takes(text, call) or (
            self._table is not None and call.method == QUERIES.method
        )

    def limit(self, max_tokens: int) -> None:
        """Truncate documents to `max_tokens` from now on."""
        before = None if self._table is None else self._table.max_seq_length
        super().limit(max_tokens)
        if self._table is not None:
            self._table.max_seq_length = before

    def _run(self, text: str, call: Call) -> FloatArray:
        with quiet():
            row: Any = call.of(self._model, text)
        dense: FloatArray = row.to_dense().numpy()
        return dense

    def _transformer(self) -> Any:
        first: Any = self._model[0]
        if type(first).__name__ in ROUTERS:
            return first.sub_modules[DOCUMENT][0]
        return first

    def _features(self, text: Text) -> dict[str, Any]:
        with self._naming(text):
            features: dict[str, Any] = self._model.preprocess([text], task=DOCUMENT)
        return features

    def _require_one_tokenizer(self) -> None:
        """Raise UnsupportedModelError unless queries and documents have the same tokens."""
        one, other = (_plain(module.tokenizer) for module in (self._table, self._transformer()))
        if one != other:
            raise UnsupportedModelError(
                f"{self._folder} has a tokenizer for queries that differs from that for documents; "
                "embedrt supports only one for both"
            )


class DenseRows:
    """A loaded sparse bundle with the methods of an embedder, for the comparison of all values."""

    def __init__(self, encoder: SparseEncoder) -> None:
        self._encoder = encoder
        self.manifest = encoder.manifest
        self.max_tokens = encoder.max_tokens
        self.count_tokens = encoder.count_tokens
        self.tokenize = encoder.tokenize

    def encode(self, texts: str | Sequence[str], **options: Any) -> FloatArray:
        """Return all values of the rows."""
        return self._dense(self._encoder.encode, texts, options)

    def encode_query(self, texts: str | Sequence[str], **options: Any) -> FloatArray:
        """Return all values of the rows of queries."""
        return self._dense(self._encoder.encode_query, texts, options)

    def encode_document(self, texts: str | Sequence[str], **options: Any) -> FloatArray:
        """Return all values of the rows of documents."""
        return self._dense(self._encoder.encode_document, texts, options)

    def _dense(self, encode: Any, texts: Any, options: dict[str, Any]) -> FloatArray:
        rows = encode(texts, max_active_dims=self._encoder.dimension, **options)
        dense: FloatArray = rows.to_dense()
        return dense


def _plain(tokenizer: Any) -> tuple[str, str]:
    """Return a tokenizer without the settings that depend on calls, and its truncation side."""
    return plain_json(tokenizer), tokenizer.truncation_side
