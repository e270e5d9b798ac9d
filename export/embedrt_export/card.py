"""The bundle's README: metadata for a hub, contents, source, and measured agreement."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from huggingface_hub import ModelCardData

from embedrt.bundle.late_interaction import LateInteraction
from embedrt.bundle.manifest import Manifest, Task, describe_pooling

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HEAD = """\
---
{metadata}
---

# {name}

[{id}](https://huggingface.co/{id}) as one ONNX graph, from {what}, for embedrt.

| | |
|---|---|
| source | `{id}`, {origin} |
| license of the model | {license} |
| encoder | {family}, {builder}{ignored} |
"""

EMBEDDING = """\
| embedding | {dimension} components, {normalized}, {precision} |
| longest text | {max_tokens} tokens, truncated on the {truncation_side} |
| pooling | {pooling} |
| score | {similarity} |

Measured at export against {reference} on {texts} texts: largest difference of a component
{max_difference:.1e} (allowed: {tolerance:g}), smallest cosine {min_cosine:.7f}; each text gave
the same bytes alone and in batches.
{quality}
"""

RERANKING = """\
| scores | {labels}; through {activation}, {precision} |
| longest pair | {max_tokens} tokens, the longer text truncated on the {truncation_side} |

Measured at export against {reference} on {texts} pairs: largest difference of a score
{max_difference:.1e} of the largest (allowed: {tolerance:g}); each pair gave the same bytes alone
and in batches.
{quality}
"""

SPARSE = """\
| sparse row | a weight for each of {dimension} words, most of them 0, {precision} |
| longest text | {max_tokens} tokens, truncated on the {truncation_side} |
| pooling | {pooling}{queries} |
| score | {similarity} |

Measured at export against {reference} on {texts} texts: largest difference of a weight
{max_difference:.1e} of the text's largest (allowed: {tolerance:g}); each text gave the same bytes
alone and in batches.
{quality}
"""

LATE = """\
| vectors | one per token, of {dimension} components, {normalized}, {precision} |
| longest text | {lengths}, truncated on the {truncation_side} |
| score | {score} |

Measured at export against {reference} on {texts} texts: largest difference of a component
{max_difference:.1e} (allowed: {tolerance:g}), smallest cosine {min_cosine:.7f}; each text gave
the same bytes alone and in batches.
{quality}
"""

USE = """\
## Use

```console
$ pip install embedrt
$ embedrt verify {name}      # checks every byte, and the results on this machine
```

"""

EMBEDDER = """\
```python
from embedrt import Embedder

embedder = Embedder.load("{name}")  # or "hub:ORG/NAME@COMMIT"
embedder.encode(["a text", "another"])
```

Over HTTP, for clients of OpenAI's API:

```console
$ pip install 'embedrt[serve]'
$ embedrt serve {name}
$ curl localhost:8080/v1/embeddings -H 'Content-Type: application/json' \\
    -d '{{"model": "{name}", "input": ["a text", "another"]}}'
```
"""

RERANKER = """\
```python
from embedrt import Reranker

reranker = Reranker.load("{name}")  # or "hub:ORG/NAME@COMMIT"
reranker.rank("a question", ["a document", "another"])
reranker.predict([("a question", "a document")])
```
"""

SPARSE_ENCODER = """\
```python
from embedrt import SparseEncoder

encoder = SparseEncoder.load("{name}")  # or "hub:ORG/NAME@COMMIT"
rows = encoder.encode_document(["a text", "another"])  # indices, values, indptr: CSR
encoder.similarity(encoder.encode_query("a question"), rows)
```
"""

MULTI_VECTOR_ENCODER = """\
```python
from embedrt import MultiVectorEncoder

encoder = MultiVectorEncoder.load("{name}")  # or "hub:ORG/NAME@COMMIT"
documents = encoder.encode_document(["a text", "another"])  # arrays of (tokens, {dimension})
encoder.similarity(encoder.encode_query(["a question"]), documents)
```
"""

QUALITY = """
int8, scheme {scheme}, against fp32 on {texts} held-out texts: mean cosine {mean_cosine:.4f}, first
percentile {first_percentile_cosine:.4f}, smallest {min_cosine:.4f}; {rank_agreement:.0%} of the ten
nearest neighbors are the same.
"""

ORDER = """
int8, scheme {scheme}, against fp32 on {texts} held-out pairs: Kendall's tau
{kendall_tau:.3f} between the orders of a query's documents, {top_agreement:.0%} of the ten best are
the same; the scores differ by {score_error:.3f} of their standard deviation.
"""

TERMS = """
int8, scheme {scheme}, against fp32 on {texts} held-out texts: mean cosine {mean_cosine:.4f},
smallest {min_cosine:.4f}; Kendall's tau {order_agreement:.3f}
between the orders of the dot products; {term_overlap:.1%} of the weight is in the same terms.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The README of a task's bundles."""

    template: str
    quality: str
    what: str
    pipeline_tag: str
    tag: str


PAGES: dict[Task, Page] = {
    "embedding": Page(
        template=HEAD + EMBEDDING + USE + EMBEDDER,
        quality=QUALITY,
        what="token ids to embedding",
        pipeline_tag="sentence-similarity",
        tag="feature-extraction",
    ),
    "reranking": Page(
        template=HEAD + RERANKING + USE + RERANKER,
        quality=ORDER,
        what="the token ids of two texts to their scores",
        pipeline_tag="text-ranking",
        tag="reranker",
    ),
    "sparse": Page(
        template=HEAD + SPARSE + USE + SPARSE_ENCODER,
        quality=TERMS,
        what="token ids to a weight for each word",
        pipeline_tag="feature-extraction",
        tag="sparse-encoder",
    ),
    "late-interaction": Page(
        template=HEAD + LATE + USE + MULTI_VECTOR_ENCODER,
        quality=ORDER,
        what="token ids to a vector for each token",
        pipeline_tag="feature-extraction",
        tag="multi-vector",
    ),
}


def model_card(manifest: Manifest) -> str:
    """Return the README of a verified bundle."""
    agreement = manifest.agreement
    if agreement is None:
        raise ValueError(f"{manifest.name} has not been compared with its original")
    source = manifest.source
    page, own, late = PAGES[manifest.task], manifest.reranking, manifest.late_interaction
    revision = f"{source.origin}, revision {source.revision}" if source.revision else source.origin
    return page.template.format(
        metadata=_metadata(manifest),
        quality=_quality(manifest),
        what=page.what,
        labels=", ".join(own.labels) if own else "",
        activation=own.activation if own else "",
        name=manifest.name,
        id=source.id,
        origin=revision,
        license=source.license or "not declared",
        family=manifest.family,
        builder=manifest.builder,
        ignored=_ignored(source.ignored_code),
        dimension=manifest.dimension,
        normalized="of length 1" if manifest.normalized else "not normalized",
        precision=manifest.precision,
        max_tokens=manifest.max_tokens,
        truncation_side=manifest.truncation_side,
        pooling=_pooling(manifest),
        queries=_queries(manifest),
        similarity=manifest.similarity,
        score=late.score if late else "",
        lengths=_lengths(late) if late else "",
        reference=agreement.reference,
        texts=agreement.texts,
        max_difference=agreement.max_difference,
        tolerance=agreement.tolerance,
        min_cosine=agreement.min_cosine,
    )


def _pooling(manifest: Manifest) -> str:
    sparse = manifest.sparse
    if sparse:
        return f"{sparse.pooling} of {sparse.activation}"
    return describe_pooling(manifest)


def _lengths(late: LateInteraction) -> str:
    expansion = late.expansion
    added = f", shorter ones expanded to {expansion.length}" if expansion else ""
    return f"queries {late.query_tokens} tokens{added}, documents {late.document_tokens}"


def _queries(manifest: Manifest) -> str:
    """Return the note on queries that do not run the encoder."""
    free = manifest.sparse is not None and manifest.sparse.queries is not None
    return "; queries have a fixed weight per token" if free else ""


def _ignored(code: tuple[str, ...]) -> str:
    """Return the note on code of the model's author that the export ignored."""
    if not code:
        return ""
    names = ", ".join(f"`{name}`" for name in code)
    return f"; the author's own code ({names}) was ignored on request, and never compared"


def _metadata(manifest: Manifest) -> str:
    """Return the metadata for a hub, as YAML without fences."""
    source, page = manifest.source, PAGES[manifest.task]
    known = HUB_ID.fullmatch(source.id) is not None
    data = ModelCardData(
        library_name="embedrt",
        base_model=source.id if known else None,
        base_model_relation="quantized" if known and manifest.precision == "int8" else None,
        license=source.license,
        pipeline_tag=page.pipeline_tag,
        tags=["embedrt", "onnx", page.tag, manifest.family, manifest.precision],
    )
    text: str = data.to_yaml()
    return text.rstrip("\n")


def _quality(manifest: Manifest) -> str:
    found = manifest.quantization
    if found is None:
        return ""
    return PAGES[manifest.task].quality.format(**asdict(found))
