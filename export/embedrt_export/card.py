"""The bundle's README: its contents, its source and the measured agreement."""

from __future__ import annotations

from embedrt.bundle.manifest import Manifest

TEMPLATE = """\
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

```python
from embedrt import Embedder

embedder = Embedder.load("{name}")
embedder.encode(["a text", "another"])
```
"""


def model_card(manifest: Manifest) -> str:
    """Return the README of a verified bundle."""
    agreement = manifest.agreement
    if agreement is None:
        raise ValueError(f"{manifest.name} has not been proven")
    source = manifest.source
    revision = f"{source.origin}, revision {source.revision}" if source.revision else source.origin
    return TEMPLATE.format(
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
