"""Tables of the settings of a sparse encoder's own modules, and of a router."""

from __future__ import annotations

from dataclasses import replace

from embedrt_export.source.checks import (
    ANY,
    COUNT,
    FLAG,
    OBJECT,
    TEXT,
    TEXTS,
    Table,
    honored,
    object_of,
    overruled,
    refused,
)

SPLADE_POOLING = Table(
    unknown="refused",
    keys={
        "pooling_strategy": honored(TEXT, "how the logits of a word are pooled"),
        "activation_function": honored(TEXT, "what a logit goes through"),
        "embedding_dimension": overruled(COUNT.or_null, "the decoder's own width counts"),
        "word_embedding_dimension": overruled(COUNT.or_null, "the decoder's own width counts"),
        "chunk_size": overruled(ANY, "it affects memory, not the result"),
    },
)

SPARSE_STATIC = Table(
    unknown="refused",
    keys={
        "frozen": overruled(ANY, "it affects training only"),
        "path": refused(
            "its weights are those of a JSON file elsewhere: load it and save it again",
            but=(None,),
        ),
    },
)

ROUTES = Table(
    unknown="ignored",
    keys={
        "types": honored(object_of(TEXT), "the classes of the modules"),
        "structure": honored(object_of(TEXTS), "the modules of each route"),
        "parameters": honored(OBJECT, "as each of its keys says"),
    },
)

ROUTER = replace(
    ROUTES,
    inside={
        "parameters": Table(
            unknown="refused",
            keys={
                "default_route": honored(TEXT.or_null, "the route of texts without a task"),
                "allow_empty_key": honored(FLAG, "the first route is then the default"),
                "route_mappings": refused("routes by modality", but=(None, {})),
            },
        )
    },
)
