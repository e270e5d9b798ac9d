"""The engine of a corpus: ONNX Runtime or the kernels, the same for all parts of an output.

Each engine always gives a text the same bytes; the two agree to the rounding of int8. An output
therefore has one engine. The first run chooses it, and later runs and all machines keep it.
"""

from __future__ import annotations

import platform
from pathlib import Path

from embedrt.bundle.reader import Bundle
from embedrt.corpus.output import ONNX_RUNTIME
from embedrt.corpus.table import AnyEncoder, load_encoder
from embedrt.errors import CorpusError, CorpusOutputError, KernelsError
from embedrt.kernels.choose import VARIABLE, choose_unloaded, default_use

KERNELS = "kernels"  # of any path; the kind of processor determines the path


def choose_engine(bundle: Bundle, recorded: str | None, output: str) -> str:
    """Return the engine of an output: the recorded one, otherwise the one that runs the bundle.

    Raises CorpusOutputError if `EMBEDRT_KERNELS` selects another engine than the recorded one, and
    KernelsError if it requires kernels for a new output and they cannot run the bundle.
    """
    use = default_use()
    if recorded is not None:
        wanted = {"auto": recorded, "off": ONNX_RUNTIME, "require": KERNELS}[use]
        if wanted != recorded:
            raise CorpusOutputError(
                f"{output} was computed by {recorded}, and {VARIABLE}={use} selects {wanted}, "
                f"whose vectors differ by rounding: unset {VARIABLE} to continue with "
                f"{recorded}, or choose a new folder"
            )
        return recorded
    return ONNX_RUNTIME if choose_unloaded(bundle, use).kernels is None else KERNELS


def load_to_embed(bundle: Path, threads: int | None, engine: str) -> AnyEncoder:
    """Load a bundle in the output's engine. Raises CorpusError if that cannot run here."""
    if engine == ONNX_RUNTIME:
        return load_encoder(bundle, threads, "off")
    try:
        return load_encoder(bundle, threads, "require")
    except KernelsError as error:
        raise CorpusError(
            f"the output is computed by {engine}, which {platform.node()} cannot run ({error}); "
            "continue on machines that can run it, or embed into a new folder with "
            f"{VARIABLE}=off"
        ) from error


def load_to_compare(bundle: Path, recorded: str) -> AnyEncoder:
    """Load a bundle in the recorded engine, or in another one if it does not run here.

    `EMBEDRT_KERNELS` decides if it is set.
    """
    if default_use() != "auto":
        return load_encoder(bundle, None)
    try:
        return load_encoder(bundle, None, "off" if recorded == ONNX_RUNTIME else "require")
    except KernelsError:
        return load_encoder(bundle, None, "off")


def engine_of(encoder: AnyEncoder) -> str:
    """Return what runs a loaded bundle: ONNX Runtime without its version, or kernels and path."""
    engine = encoder.stats().engine
    return ONNX_RUNTIME if engine.startswith(ONNX_RUNTIME) else engine
