"""Tests that pin the public interface: a change of it is a change of what users call.

A name or keyword may be added below. One that is changed or removed needs what README.md promises
in *What is stable*.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

import embedrt
from embedrt import errors
from embedrt.engine.stats import Stats
from embedrt.loaded import LoadOptions
from embedrt.request import Embedded
from embedrt.similarity import Hit
from embedrt.sparse_rows import SparseRows
from embedrt.spellings import OMITTED

LOADED = """
close()
count_tokens(texts)
default_prompt_name
is_usable
load(path, *, threads=None, overlong='truncate', cache_mb=0, max_waiting_tokens=None, mapped=True,
    kernels=None, verify='size')
manifest
max_seq_length
max_tokens
options
prompts
stats()
tokenize(texts)
tokenizer
waiting_tokens
"""
"""What the classes of all tasks have."""

INTERFACE: dict[type[Any], str] = {
    embedrt.Embedder: LOADED
    + """aembed(texts=..., *, overlong=None, truncation_side=None, **options)
aencode(texts=..., **options)
dimension
embed(texts=..., **options)
embed_stream(texts, *, prompt_name=None, prompt=None, batch_size=None, precision='float32',
    normalize_embeddings=False, truncate_dim=None)
encode(texts=..., prompt_name=None, prompt=None, batch_size=None, show_progress_bar=False, *,
    precision='float32', normalize_embeddings=False, truncate_dim=None, **spellings)
encode_document(texts=..., **options)
encode_query(texts=..., **options)
get_embedding_dimension()
get_max_seq_length()
get_sentence_embedding_dimension()
semantic_search(queries, documents, *, top_k=10)
similarity(a, b)
similarity_fn_name
similarity_pairwise(a, b)
""",
    embedrt.Reranker: LOADED
    + """activation
apredict(pairs=..., **options)
arank(query, documents, top_k=None, return_documents=False, **options)
ascore(pairs=..., *, overlong=None, truncation_side=None, **options)
count_pair_tokens(pairs)
labels
num_labels
predict(pairs=..., prompt_name=None, prompt=None, batch_size=None, show_progress_bar=False,
    activation_fn=None, apply_softmax=False, **spellings)
rank(query, documents, top_k=None, return_documents=False, **options)
raw_scores(pairs)
tokenize_pairs(pairs)
""",
    embedrt.SparseEncoder: LOADED
    + """aembed(texts=..., *, overlong=None, truncation_side=None, **options)
aencode(texts=..., **options)
aencode_document(texts=..., **options)
aencode_query(texts=..., **options)
decode(rows, top_k=None)
dimension
embed(texts=..., **options)
embed_stream(texts, *, prompt_name=None, prompt=None, batch_size=None, max_active_dims=None,
    task=None)
encode(texts=..., prompt_name=None, prompt=None, batch_size=None, show_progress_bar=False, *,
    max_active_dims=None, task=None, **spellings)
encode_document(texts=..., **options)
encode_query(texts=..., **options)
get_embedding_dimension()
get_max_seq_length()
get_sentence_embedding_dimension()
max_active_dims
similarity(a, b)
similarity_fn_name
similarity_pairwise(a, b)
""",
    embedrt.MultiVectorEncoder: LOADED
    + """aembed(texts=..., *, overlong=None, truncation_side=None, **options)
aencode(texts=..., **options)
aencode_document(texts=..., **options)
aencode_query(texts=..., **options)
dimension
document_tokens
embed_stream(texts, *, prompt_name=None, prompt=None, batch_size=None, normalize_embeddings=False,
    task=None)
encode(texts=..., prompt_name=None, prompt=None, batch_size=None, show_progress_bar=False, *,
    normalize_embeddings=False, task=None, **spellings)
encode_document(texts=..., **options)
encode_query(texts=..., **options)
get_embedding_dimension()
inputs(text, task=None)
query_tokens
similarity(queries, documents)
similarity_fn_name
similarity_pairwise(queries, documents)
""",
    embedrt.Bundle: """
graph
load_weights(*, mapped=True)
manifest
open(path, *, verify='size')
path
probes
tokenizer
weights_size
""",
    embedrt.Manifest: """
agreement
builder
default_prompt_name
dimension
family
files
format_version
from_json(text)
inputs
is_static
late_interaction
max_characters
max_tokens
name
normalized
outputs
pooling
precision
prompt_endings
prompts
quantization
reranking
similarity
source
sparse
task
to_json()
tools
truncation_side
""",
    Stats: """
batches
cache_hits
coalesced
engine
engine_reason
run_seconds
texts
tokens
waiting_texts
waiting_tokens
""",
    LoadOptions: """
cache_mb
kernels
mapped
max_waiting_tokens
overlong
threads
""",
    Embedded: """
token_counts
vectors
""",
    Hit: """
index
score
""",
    SparseRows: """
indices
indptr
of(rows, dimension)
row_numbers()
shape
to_dense()
to_scipy()
values
""",
}

FUNCTIONS = """
quantize_embeddings(embeddings, precision, *, ranges=None)
semantic_search(queries, documents, *, top_k=10, similarity_fn_name='cosine')
"""

ERRORS = """
BundleCorruptError BundleError BundleFormatError BundleNotFoundError ClosedError CorpusError
CorpusOutputError CorpusSourceError EmbedrtError ExportError ForkedError HubError KernelsError
MissingExtraError NonFiniteEmbeddingError OverloadedError OverlongTextError ProofError
QualityError QuantizationError RecipeMismatchError SourceError TextError TokenizationError
UnsupportedModelError
"""


def rows_of(text: str) -> list[str]:
    """Return the rows of a text above, each on one line."""
    return text.replace("\n    ", " ").split("\n")[1:-1]


def signature(function: Any) -> str:
    """Return a function's parameters with their defaults, without their types and `self`."""
    shown = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name != "self":
            omitted = parameter.default is OMITTED
            plain = parameter.replace(annotation=parameter.empty)
            shown.append(plain.replace(default=...) if omitted else plain)
    return str(inspect.Signature(shown)).replace("Ellipsis", "...")


def members(kind: type[Any]) -> Iterator[str]:
    """Yield the public fields, properties and methods of a class."""
    if is_dataclass(kind):
        yield from (field.name for field in fields(kind) if not field.name.startswith("_"))
    for name in dir(kind):
        static = inspect.getattr_static(kind, name)
        if not name.startswith("_") and not inspect.ismemberdescriptor(static):
            found = getattr(kind, name)
            yield name + (signature(found) if callable(found) else "")


@pytest.mark.parametrize("kind", INTERFACE, ids=lambda kind: kind.__name__)
def test_members(kind: type[Any]) -> None:
    assert sorted(members(kind)) == sorted(rows_of(INTERFACE[kind]))


def test_every_public_class_is_pinned() -> None:
    public = {
        found for name in embedrt.__all__ if isinstance(found := getattr(embedrt, name), type)
    }
    assert public <= INTERFACE.keys()


def test_functions() -> None:
    found = [
        name + signature(function)
        for name in embedrt.__all__
        if inspect.isfunction(function := getattr(embedrt, name))
    ]
    assert found == rows_of(FUNCTIONS)


def test_errors() -> None:
    found = {name for name, value in vars(errors).items() if isinstance(value, type)}
    raised = {name for name in found if issubclass(getattr(errors, name), errors.EmbedrtError)}
    assert raised == set(ERRORS.split())
    assert all(f"{name} " in f"{errors.__doc__}".replace("\n", " ") for name in raised)
