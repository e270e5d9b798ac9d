"""Rewriting a bundle of an older format version, without the original model and without torch.

Only the location of the weights changes. The new bundle is written to a temporary folder, must give
the same bytes as the old bundle for the texts of its probes, and is then renamed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from embedrt.bundle.graph_rules import check_graph
from embedrt.bundle.manifest import FORMAT_VERSION
from embedrt.bundle.memory import load_file
from embedrt.bundle.reader import CARD, PROBES, TOKENIZER, Bundle
from embedrt.bundle.writer import staged_bundle
from embedrt.embedder import Embedder
from embedrt.errors import BundleCorruptError
from embedrt.loaded import LoadOptions
from embedrt.verify import read_probes


def upgrade_bundle(path: str | Path, output: Path) -> None:
    """Write the bundle at `path` to `output` in the newest format, replacing a bundle there.

    Raises
    ------
    BundleError
        The bundle cannot be read, or the new one gives different vectors.
    ExportError
        `output` exists and is not a bundle, or cannot be written.
    ValueError
        The bundle already has the newest format.
    """
    bundle = Bundle.open(path, verify="sha256")
    version = bundle.manifest.format_version
    if version == FORMAT_VERSION:
        raise ValueError(f"{bundle.path} has format version {version} already: use it as it is")
    check_graph(bundle.graph, bundle.weights_size)
    with staged_bundle(output) as staging:
        with load_file(bundle.graph) as graph:
            staging.add_graph(graph)
        for name in (TOKENIZER, PROBES, CARD):
            staging.add(name, (bundle.path / name).read_bytes())
        staging.seal(dataclasses.replace(bundle.manifest, format_version=FORMAT_VERSION))
        _require_same_bytes(bundle, Bundle.open(staging.path))
        staging.publish()


def _require_same_bytes(old: Bundle, new: Bundle) -> None:
    texts, _ = read_probes(old)
    options = LoadOptions(kernels="off")  # the same engine for both, wherever the kernels run
    with Embedder(old, options) as before, Embedder(new, options) as after:
        if not np.array_equal(before.encode(texts), after.encode(texts)):
            raise BundleCorruptError(
                f"{old.path}: the rewritten bundle gives different vectors; export the model "
                "again, and please report it with your version of onnxruntime"
            )
