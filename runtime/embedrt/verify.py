"""Verification of a bundle on any machine, without torch.

A bundle's probes are texts with the original model's vectors. They are computed in a child process
first, because a malformed graph or tokenizer can crash the process.
"""

from __future__ import annotations

import json
import reprlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.manifest import REMEDY, Precision
from embedrt.bundle.reader import Bundle
from embedrt.embedder import Embedder
from embedrt.errors import BundleCorruptError, EmbedrtError
from embedrt.text.inputs import as_text, start_of

# Other processors round differently: a difference may be this multiple of the export's tolerance.
# The tolerance of int8 already includes a margin.
SLACK: dict[Precision, float] = {"fp32": 10, "int8": 1}


def row_differences(
    found: NDArray[np.float32], expected: NDArray[np.float32], *, normalized: bool
) -> NDArray[np.float32]:
    """Return each row's largest difference of a component, as `Agreement` defines it.

    Shape: (n, dimension) twice to (n,).
    """
    largest = 1.0 if normalized else np.abs(expected).max(axis=1, keepdims=True)
    scale = np.where(largest == 0, 1.0, largest)  # a static model gives zeros for no tokens
    differences: NDArray[np.float32] = np.max(np.abs(found - expected) / scale, axis=1)
    return differences


def check_probes(embedder: Embedder, bundle: Bundle) -> float:
    """Return the largest difference from the probes' vectors, as `Agreement` defines it.

    Raises BundleCorruptError if it exceeds the export's tolerance times `SLACK`.
    """
    agreement = bundle.manifest.agreement
    if agreement is None:
        raise BundleCorruptError(f"{bundle.path} was never proven: export the model again")
    texts, expected = read_probes(bundle)
    found = embedder.encode(texts, prompt="")
    differences = row_differences(found, expected, normalized=bundle.manifest.normalized)
    worst = int(differences.argmax())  # NaN counts as the largest
    difference = float(differences[worst])
    allowed = SLACK[bundle.manifest.precision] * agreement.tolerance
    if not difference <= allowed:
        raise BundleCorruptError(
            f"{bundle.path} gives vectors that differ by {difference:.1e} from the original's on "
            f"this machine, most on {start_of(texts[worst])}; at most {allowed:g} is expected. "
            "Report your processor and the version of onnxruntime"
        )
    return difference


def read_probes(bundle: Bundle) -> tuple[list[str], NDArray[np.float32]]:
    """Return the probes' texts and the original's vectors, shape (n, dimension).

    Raises BundleCorruptError if the file is invalid.
    """
    try:
        probes = json.loads(bundle.probes.read_text(encoding="utf-8"))
        texts = [as_text(probe["text"]) for probe in probes]
        vectors = np.array([probe["embedding"] for probe in probes], np.float64)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise _invalid_probes(bundle, reprlib.repr(error)) from error
    if not texts or vectors.shape != (len(texts), bundle.manifest.dimension):
        raise _invalid_probes(bundle, f"their shape is {vectors.shape}")
    if not (np.abs(vectors) <= np.finfo(np.float32).max).all():
        raise _invalid_probes(bundle, "not all are finite")
    return texts, vectors.astype(np.float32)


def _invalid_probes(bundle: Bundle, why: str) -> BundleCorruptError:
    return BundleCorruptError(
        f"{bundle.probes} holds no texts with their embeddings ({why}); {REMEDY}"
    )


SECONDS = 300.0
REFUSED = 3  # exit status of a child in which an EmbedrtError is raised


def try_bundle(path: Path, *, seconds: float = SECONDS) -> None:
    """Load the bundle at `path` and compute its probes in a child process.

    Returns if this process can safely do the same, even if the child raised an EmbedrtError: this
    process will raise it too. Raises BundleCorruptError if the child crashes or takes more than
    `seconds`.
    """
    # -P: a module in the current folder must not be imported in place of embedrt's.
    command = [sys.executable, "-P", "-m", __name__, str(path.absolute())]
    try:
        child = subprocess.run(  # noqa: S603 - our own module
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleCorruptError(
            f"{path} was not loaded and run within {seconds:g} seconds; {REMEDY}, and do not load "
            "it as it is: it would hang"
        ) from error
    if child.returncode not in (0, REFUSED):
        raise BundleCorruptError(
            f"{path} kills the process that loads it "
            f"({_describe_exit(child.returncode, child.stderr)}); {REMEDY}, and do not load it as "
            "it is"
        )


def _describe_exit(status: int, stderr: bytes) -> str:
    if status < 0:
        return signal.Signals(-status).name
    last = stderr.decode(errors="replace").strip().splitlines()[-1:]
    return ": ".join([f"exit status {status}", *last])


def _load_and_run(path: Path) -> None:
    bundle = Bundle.open(path)
    with Embedder(bundle) as embedder:
        check_probes(embedder, bundle)


if __name__ == "__main__":
    try:
        _load_and_run(Path(sys.argv[1]))
    except EmbedrtError:
        sys.exit(REFUSED)
