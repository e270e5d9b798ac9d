"""``embedrt info``: describe a bundle."""

from __future__ import annotations

import argparse
from typing import Any

from embedrt.bundle.late_interaction import LateInteraction
from embedrt.bundle.manifest import Manifest, describe_pooling
from embedrt.bundle.quantization import Quantization, ScoreQuantization, TermQuantization
from embedrt.bundle.reader import Bundle
from embedrt.cli.bundles import add_bundle
from embedrt.errors import BundleError
from embedrt.hub.place import noted_place
from embedrt.kernels.choose import choose_unloaded, default_use


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("info", help="describe a bundle", description=__doc__)
    add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print the manifest")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the manifest, as a table or JSON."""
    bundle = Bundle.open(options.bundle)
    manifest = bundle.manifest
    if options.json:
        print(manifest.to_json(), end="")
        return
    source, agreement = manifest.source, manifest.agreement
    origin = f"{source.origin} {source.revision}" if source.revision else source.origin
    size = sum(entry.size for entry in manifest.files.values())
    rows = {
        "name": manifest.name,
        "format": f"version {manifest.format_version}, {manifest.task}",
        "source": f"{source.id} ({origin})",
        "license": source.license or "not declared",
        "encoder": f"{manifest.family}, {manifest.builder}, {manifest.precision}",
        **_describe_results(manifest),
        "max tokens": _describe_limits(manifest),
        "vectors" if manifest.late_interaction else "pooling": _describe_pooling(manifest),
        **({} if manifest.reranking else _describe_vectors(manifest)),
        "prompts": ", ".join(_describe_prompts(manifest)) or "none",
        "size": f"{size / 1e6:.1f} MB",
        "made with": ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items()),
        "agreement": (
            f"{agreement.max_difference:.1e} largest difference, {agreement.min_cosine:.7f} "
            f"smallest cosine to {agreement.reference} over {agreement.texts} texts"
            if agreement
            else "not measured"
        ),
    }
    if quantization := manifest.quantization:
        rows["int8"] = _describe_quantization(quantization)
        rows |= {f"rejected {i}": why for i, why in enumerate(quantization.rejected, start=1)}
    rows["engine"] = _describe_engine(bundle)
    if place := noted_place(bundle.path):
        rows["pulled"] = str(place)
    for name, value in rows.items():
        print(f"{name:<11} {value}")


def _describe_engine(bundle: Bundle) -> str:
    """Return the engine that would run the bundle in this environment, and the reason."""
    use = default_use()
    try:
        chosen = choose_unloaded(bundle, "auto" if use == "require" else use)
    except BundleError as error:
        return f"none ({error})"
    return f"{chosen.engine} ({chosen.why})"


def _describe_results(manifest: Manifest) -> dict[str, object]:
    """Return the rows on what the bundle computes."""
    found = manifest.reranking
    if found is None:
        return {"vocabulary" if manifest.sparse else "dimension": manifest.dimension}
    return {"labels": ", ".join(found.labels), "activation": found.activation}


def _describe_pooling(manifest: Manifest) -> str:
    sparse = manifest.sparse
    if manifest.late_interaction is not None:
        return _describe_late(manifest.late_interaction)
    if sparse is None:
        return describe_pooling(manifest)
    kept = sparse.max_active_dims
    return ", ".join(
        [
            f"{sparse.pooling} of {sparse.activation}",
            *([] if kept is None else [f"the {kept} largest kept"]),
            *(["queries from a weight per token"] if sparse.queries else []),
        ]
    )


def _describe_late(late: LateInteraction) -> str:
    expansion = late.expansion
    left_out = f"{len(late.skipped)} tokens skipped in each {' and '.join(late.skipped_in)}"
    return ", ".join(
        [
            f"one per token, {late.query_tokens} of a query, {late.document_tokens} of a document",
            *([f"queries expanded to {expansion.length}"] if expansion else []),
            *([left_out] if late.skipped and late.skipped_in else []),
        ]
    )


def _describe_vectors(manifest: Manifest) -> dict[str, str]:
    normalized = "yes" if manifest.normalized else "no"
    late = manifest.late_interaction
    return {"normalized": normalized, "similarity": late.score if late else manifest.similarity}


def _describe_quantization(found: Quantization | ScoreQuantization | TermQuantization) -> str:
    if isinstance(found, TermQuantization):
        return (
            f"scheme {found.scheme}; cosine to fp32 {found.mean_cosine:.4f} mean, "
            f"{found.min_cosine:.4f} smallest, order of dot products {found.order_agreement:.3f}, "
            f"terms in common {found.term_overlap:.3f}, over {found.texts} texts"
        )
    if isinstance(found, ScoreQuantization):
        return (
            f"scheme {found.scheme}; Kendall's tau to fp32 {found.kendall_tau:.3f}, top ten in "
            f"common {found.top_agreement:.2f}, score error {found.score_error:.3f}, over "
            f"{found.texts} pairs"
        )
    return (
        f"scheme {found.scheme}; cosine to fp32 {found.mean_cosine:.4f} mean, "
        f"{found.first_percentile_cosine:.4f} first percentile, {found.min_cosine:.4f} smallest, "
        f"rank agreement {found.rank_agreement:.2f}, over {found.texts} texts"
    )


def _describe_prompts(manifest: Manifest) -> list[str]:
    default = manifest.default_prompt_name
    return [
        f"{name}={text!r}{' (the default)' if name == default else ''}"
        for name, text in manifest.prompts.items()
    ]


def _describe_limits(manifest: Manifest) -> str:
    limits = f"{manifest.max_tokens}, truncated on the {manifest.truncation_side}"
    if manifest.max_characters is None:
        return limits
    return f"{limits}, of the first {manifest.max_characters} characters"
