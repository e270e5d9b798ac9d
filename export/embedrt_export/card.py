"""The bundle's README: a hub's metadata, its contents, its source and what was measured."""

from __future__ import annotations

import re

from huggingface_hub import ModelCardData

from embedrt.bundle.manifest import Manifest

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
TEMPLATE = """\
---
{metadata}
---

# {name}

[{id}](https://huggingface.co/{id}) as one ONNX graph, from token ids to embedding, for embedrt.

| | |
|---|---|
| source | `{id}`, {origin} |
| licence of the model | {license} |
| encoder | {family}, {builder}{ignored} |
| embedding | {dimension} components, {normalized}, {precision} |
| longest text | {max_tokens} tokens, cut on the {truncation_side} |
| pooling | {pooling} |
| score | {similarity} |

Measured at export against {reference} on {texts} texts: largest difference of a component
{max_difference:.1e} (allowed: {tolerance:g}), smallest cosine {min_cosine:.7f}; each text gave
the same bytes alone and in batches.
{quality}
## Use

```console
$ pip install embedrt
$ embedrt verify {name}      # every byte, and that it computes here what it should
```

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

QUALITY = """
int8, scheme {scheme}, against fp32 on {texts} texts that it was not fitted to: cosine
{mean_cosine:.4f} in the mean, {first_percentile_cosine:.4f} at the first percentile and
{min_cosine:.4f} at the least; {rank_agreement:.0%} of the ten nearest neighbors are the same.
"""


def model_card(manifest: Manifest) -> str:
    """Return the README of a verified bundle."""
    agreement = manifest.agreement
    if agreement is None:
        raise ValueError(f"{manifest.name} has not been proven")
    source = manifest.source
    revision = f"{source.origin}, revision {source.revision}" if source.revision else source.origin
    return TEMPLATE.format(
        metadata=_metadata(manifest),
        quality=_quality(manifest),
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
        pooling=" + ".join(manifest.pooling),
        similarity=manifest.similarity,
        reference=agreement.reference,
        texts=agreement.texts,
        max_difference=agreement.max_difference,
        tolerance=agreement.tolerance,
        min_cosine=agreement.min_cosine,
    )


def _ignored(code: tuple[str, ...]) -> str:
    """Return the note on code of the model's author that the export ignored."""
    if not code:
        return ""
    names = ", ".join(f"`{name}`" for name in code)
    return f"; the author's own code ({names}) was ignored on request, and never compared"


def _metadata(manifest: Manifest) -> str:
    """Return what a hub reads, as YAML without its fences."""
    source = manifest.source
    known = HUB_ID.fullmatch(source.id) is not None
    data = ModelCardData(
        library_name="embedrt",
        base_model=source.id if known else None,
        base_model_relation="quantized" if known and manifest.precision == "int8" else None,
        license=source.license,
        pipeline_tag="sentence-similarity",
        tags=["embedrt", "onnx", "feature-extraction", manifest.family, manifest.precision],
    )
    text: str = data.to_yaml()
    return text.rstrip("\n")


def _quality(manifest: Manifest) -> str:
    found = manifest.quantization
    if found is None:
        return ""
    return QUALITY.format(
        scheme=found.scheme,
        texts=found.texts,
        mean_cosine=found.mean_cosine,
        first_percentile_cosine=found.first_percentile_cosine,
        min_cosine=found.min_cosine,
        rank_agreement=found.rank_agreement,
    )
