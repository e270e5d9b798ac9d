"""A bundle tried in a process of its own: a malformed graph or tokenizer can kill its process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from embedrt.bundle import Bundle
from embedrt.embedder import Embedder
from embedrt.errors import BundleCorruptError, EmbedrtError
from embedrt.manifest import AGAIN
from embedrt.probes import check_probes

SECONDS = 300.0
REFUSED = 3  # exit status of a child that raised one of our errors


def try_bundle(path: Path, *, seconds: float = SECONDS) -> None:
    """Load the bundle at `path` and compute its probes in a child process.

    Returns where this process can do the same and live: what it finds may still be one of our
    errors. Raises BundleCorruptError if the child dies or takes more than `seconds`.
    """
    # Safe path: a module beside the bundle must not be imported in place of ours.
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
            f"{path} was not loaded and run within {seconds:g} seconds; {AGAIN}, and do not load "
            "it as it is: it would hang"
        ) from error
    if child.returncode not in (0, REFUSED):
        raise BundleCorruptError(
            f"{path} kills the process that loads it ({_ending(child.returncode, child.stderr)}); "
            f"{AGAIN}, and do not load it as it is"
        )


def _ending(status: int, said: bytes) -> str:
    if status < 0:
        return signal.Signals(-status).name
    last = said.decode(errors="replace").strip().splitlines()[-1:]
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
