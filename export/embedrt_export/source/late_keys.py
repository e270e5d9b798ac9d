"""Tables of the settings of late interaction models."""

from __future__ import annotations

from dataclasses import replace

from embedrt_export.source.checks import COUNT, FLAG, OBJECT, TEXT, TEXTS, Table, honored, refused
from embedrt_export.source.keys import TRANSFORMER

_TOKENS = ("token_embeddings",)

EXPANSION = Table(
    unknown="refused",
    keys={
        "strategy": honored(TEXT, "whether longer queries are truncated"),
        "attend": honored(FLAG, "whether tokens attend to the added ones"),
        "token": honored(TEXT.or_null, "the token that is added"),
        "length": honored(COUNT, "the number of tokens that a query is expanded to"),
    },
)

LATE_TRANSFORMER = replace(
    TRANSFORMER,
    inside={**TRANSFORMER.inside, "query_expansion": EXPANSION},
    keys={
        **TRANSFORMER.keys,
        "query_length": honored(COUNT.or_null, "queries are truncated to it"),
        "document_length": honored(COUNT.or_null, "documents are truncated to it"),
        "query_expansion": honored(OBJECT.or_null, "as each of its keys says"),
    },
)

MULTI_VECTOR_MASK = Table(
    unknown="refused",
    keys={
        "skiplist_words": honored(TEXTS.or_null, "the tokens whose vectors are dropped"),
        "skiplist_tasks": honored(TEXT.or_list.or_null, "the texts in which they are dropped"),
        "keep_only_token_ids": refused("it is for models of images", but=(None, [])),
    },
)

TOKEN_NORMALIZE = Table(
    unknown="ignored",
    keys={
        "module_input_name": refused("only vectors of tokens are normalized", but=_TOKENS),
        "module_output_name": refused(
            "only vectors of tokens are normalized", but=(None, *_TOKENS)
        ),
    },
)
