"""Chooses whether the kernels or ONNX Runtime run a bundle, and records the reason."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from embedrt.arguments import check_choice
from embedrt.bundle.graph_rules import Ends, check_graph
from embedrt.bundle.manifest import Manifest
from embedrt.bundle.memory import load_file
from embedrt.bundle.protobuf import Messages
from embedrt.bundle.quantization import Quantization
from embedrt.bundle.reader import Bundle
from embedrt.bundle.weights import WEIGHTS
from embedrt.engine.call import TokenizeTexts
from embedrt.engine.runner import Kernels, Runner
from embedrt.errors import EmbedrtError, KernelsError, warn_caller
from embedrt.text.tokenizer import TokenIds, Tokenizer

if TYPE_CHECKING:
    from embedrt.kernels.session import Packing

Use = Literal["auto", "off", "require"]
USES: tuple[Use, ...] = get_args(Use)
VARIABLE = "EMBEDRT_KERNELS"
PATH_VARIABLE = "EMBEDRT_KERNELS_PATH"  # another path than the fastest, for measurements

PACKAGE = "embedrt_kernels"

# Largest loss of a probe's cosine, as a multiple of the worst text's loss at export. Both engines
# round to the same bytes except at ties, so a correct one is far below this limit.
SLACK = 2


@dataclass(frozen=True, slots=True)
class Choice:
    """The kernels that run a bundle; None if ONNX Runtime does."""

    kernels: Kernels | None
    why: str

    @property
    def engine(self) -> str:
        """The engine that runs the bundle, for messages."""
        if self.kernels is not None:
            return self.kernels.name
        # Imports ONNX Runtime, which the kernels do without.
        from embedrt.engine.session import RUNTIME  # noqa: PLC0415

        return RUNTIME


class _NotUsableError(Exception):
    """The kernels cannot run the bundle. The message says why."""


class _DisagreeError(_NotUsableError):
    """The kernels give vectors that differ too much from the probes."""


def default_use() -> Use:
    """Return the value of `EMBEDRT_KERNELS`, ``"auto"`` if empty; ValueError if unknown."""
    use = os.environ.get(VARIABLE) or "auto"
    check_choice(VARIABLE, use, USES)
    return cast("Use", use)


class Choosing:
    """Chooses what runs a bundle, whose graph `check_graph` has accepted and read.

    The weights of the kernels are packed meanwhile. Without `use`, `default_use` decides. Raises
    KernelsError if kernels are required and cannot run the bundle.
    """

    def __init__(
        self, bundle: Bundle, graph: Messages, use: Use | None = None, *, mapped: bool = True
    ) -> None:
        self._bundle = bundle
        self._use = use or default_use()
        self._packing: Packing | None = None
        self._choice = Choice(None, "kernels are off")
        if self._use == "off":
            return
        try:
            self._packing = _load(bundle, graph, mapped=mapped)
        except _NotUsableError as problem:
            self._choice = self._without(problem)

    def choice(self, tokenize: TokenizeTexts) -> Choice:
        """Return the choice; raise KernelsError as the class does.

        Warns if the kernels give other vectors than they should, and so are not used.
        """
        if self._packing is None:
            return self._choice
        try:
            kernels = self._packing.session()
            _check_probes(kernels, self._bundle, tokenize)
        except _NotUsableError as problem:
            return self._without(problem)
        return Choice(kernels, "the bundle and the processor fit")

    def _without(self, problem: _NotUsableError) -> Choice:
        path = self._bundle.path
        if self._use == "require":
            raise KernelsError(f'{path} cannot run with kernels="require": {problem}') from problem
        if isinstance(problem, _DisagreeError):
            warn_caller(f"{path} runs in ONNX Runtime, because {problem}; report your processor")
        return Choice(None, str(problem))


def choose_unloaded(bundle: Bundle, use: Use | None = None) -> Choice:
    """Choose what would run a bundle that is not loaded. Raises BundleError, and as `Choosing`."""
    manifest = bundle.manifest
    graph = check_graph(bundle.graph, bundle.weights_size, Ends.of(manifest))

    def tokenize(texts: Sequence[str]) -> list[TokenIds]:  # loaded only if there are kernels
        return Tokenizer.of(bundle.tokenizer, manifest).batch_ids(texts)

    return Choosing(bundle, graph, use).choice(tokenize)


def _check_manifest(manifest: Manifest) -> None:
    """Raise _NotUsableError unless the kernels may run such a bundle, and are installed."""
    if manifest.quantization is None or manifest.quantization.scheme != "static":
        scheme = manifest.quantization.scheme if manifest.quantization else manifest.precision
        raise _NotUsableError(f"kernels run only int8 of the scheme static, not {scheme}")
    if manifest.task != "embedding" or manifest.agreement is None:
        raise _NotUsableError("kernels run only embedding bundles with a measured agreement")
    if manifest.prompt_endings is not None:
        raise _NotUsableError("kernels cannot leave prompts out of the pooling")
    if find_spec(PACKAGE) is None:
        raise _NotUsableError("embedrt-kernels is not installed: pip install 'embedrt[kernels]'")


def _load(bundle: Bundle, graph: Messages, *, mapped: bool) -> Packing:
    _check_manifest(bundle.manifest)
    # Imported here, because most processes do not need them.
    from embedrt.kernels.graph import read_graph  # noqa: PLC0415
    from embedrt.kernels.library import Library, LibraryError  # noqa: PLC0415
    from embedrt.kernels.recognize import recognize  # noqa: PLC0415
    from embedrt.kernels.session import KernelSession, Model, Packing  # noqa: PLC0415

    try:
        library = Library(import_module(PACKAGE).library())
        path = os.environ.get(PATH_VARIABLE) or library.path()
        if path is None:
            raise _NotUsableError("there are no kernels for this processor")
        weights = load_file(bundle.path / WEIGHTS, mapped=mapped) if bundle.weights_size else None
        encoder = recognize(read_graph(graph, weights))
    except (OSError, ValueError, LookupError) as error:
        raise _NotUsableError(f"kernels do not cover its graph: {error}") from error
    except LibraryError as error:
        raise _NotUsableError(str(error)) from error

    def pack() -> KernelSession:
        try:
            model = Model(library, path, encoder)
        except LibraryError as error:
            raise _NotUsableError(str(error)) from error
        if weights is not None and hasattr(mmap, "MADV_DONTNEED"):
            # Of what has been packed, the original is not read again, and is still in the file.
            weights.madvise(mmap.MADV_DONTNEED)
        return KernelSession(model, path)

    return Packing(pack)


def _check_probes(kernels: Runner, bundle: Bundle, tokenize: TokenizeTexts) -> None:
    """Raise _DisagreeError unless the probes have the vectors that the export measured."""
    agreement, quantization = bundle.manifest.agreement, bundle.manifest.quantization
    assert agreement is not None  # `_load` has refused others
    assert isinstance(quantization, Quantization)
    try:
        probes = json.loads(bundle.probes.read_bytes())
        texts = [str(probe["text"]) for probe in probes]
        expected = np.array([probe["embedding"] for probe in probes], np.float64)
        found = kernels.run(tokenize(texts))
    except (OSError, ValueError, TypeError, LookupError, EmbedrtError) as error:
        raise _DisagreeError(f"the kernels do not run its probes ({error})") from error
    if found.shape != expected.shape:
        raise _DisagreeError(f"its probes have shape {expected.shape}, the kernels' {found.shape}")
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = float(np.min(np.sum(found * expected, axis=1) / lengths))
    scale = 1.0 if bundle.manifest.normalized else np.abs(expected).max()
    difference = float(np.abs(found - expected).max() / scale)
    least = 1 - SLACK * (1 - quantization.min_cosine)
    if not (cosine >= least and difference <= agreement.tolerance):
        raise _DisagreeError(
            f"the {kernels.name} give its probes a cosine of {cosine:.4f} to the original's "
            f"vectors and a difference of {difference:.1e}; at least {least:.4f} and at most "
            f"{agreement.tolerance:g} are expected"
        )
