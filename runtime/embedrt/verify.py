"""Verification of a bundle on any machine, without torch.

A bundle's probes are texts, or pairs of texts, with the original model's results. They are computed
in a child process first, because a malformed graph or tokenizer can crash the process.
"""

from __future__ import annotations

import json
import reprlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.decoding import REMEDY
from embedrt.bundle.manifest import Manifest, Precision, Task
from embedrt.bundle.reader import Bundle
from embedrt.errors import BundleCorruptError, EmbedrtError
from embedrt.loaded import LoadedBundle
from embedrt.pair import Text
from embedrt.tasks import load_any
from embedrt.text.inputs import as_pair, as_text, start_of

FloatArray = NDArray[np.float32]

# Other processors round differently: a difference may be this multiple of the export's tolerance.
# The tolerance of int8 already includes a margin.
SLACK: dict[Precision, float] = {"fp32": 10, "int8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """The format of a task's probes, and the function that computes them with a loaded bundle."""

    text: str
    """The field that holds a text."""
    read: Callable[[Any], Text]
    result: str
    """The field that holds the original's result."""
    compute: Callable[[Any, Sequence[Any]], FloatArray]
    """The results of a loaded bundle for the texts. Shape: (rows, dimension)."""
    content: str
    """The content of the file, for messages."""
    results: str
    """The name of the results, for messages."""
    by_token: bool = False
    """Whether a text has a row for each token, and not one."""


def _documents(encoder: Any, texts: Sequence[str]) -> FloatArray:
    """Return all weights of the texts, including those that `max_active_dims` would drop."""
    rows = encoder.encode(texts, prompt="", task="document", max_active_dims=encoder.dimension)
    dense: FloatArray = rows.to_dense()
    return dense


def _tokens(encoder: Any, texts: Sequence[Any]) -> FloatArray:
    """Return the vectors of the tokens of texts; each text is listed once per token."""
    rows = [encoder.encode(text, prompt="", task=task) for task, text in dict.fromkeys(texts)]
    joined: FloatArray = np.concatenate(rows)
    return joined


# By task; all results have the shape (rows, dimension).
PROBES: dict[Task, Probes] = {
    "embedding": Probes(
        text="text",
        read=as_text,
        result="embedding",
        compute=lambda embedder, texts: embedder.encode(texts, prompt=""),
        content="texts with their embeddings",
        results="vectors",
    ),
    "reranking": Probes(
        text="pair",
        read=as_pair,
        result="scores",
        compute=lambda reranker, pairs: reranker.raw_scores(pairs),
        content="pairs with their scores",
        results="scores",
    ),
    "sparse": Probes(
        text="text",
        read=as_text,
        result="weights",
        compute=_documents,
        content="texts with their weights",
        results="weights",
    ),
    "late-interaction": Probes(
        text="task_and_text",
        read=as_pair,
        result="token_embeddings",
        compute=_tokens,
        content="texts with the vectors of their tokens",
        results="vectors",
        by_token=True,
    ),
}


def row_differences(found: FloatArray, expected: FloatArray, *, normalized: bool) -> FloatArray:
    """Return each row's largest difference of a component, as `Agreement` defines it.

    Shape: (n, dimension) twice to (n,).
    """
    # The reference may be all zeros: a static model's empty text, or a sparse row without terms.
    largest = np.abs(expected).max(axis=1, keepdims=True)
    scale = 1.0 if normalized else np.where(largest > 0, largest, 1.0)
    differences: FloatArray = np.max(np.abs(found - expected) / scale, axis=1)
    return differences


def differences_of(found: FloatArray, expected: FloatArray, manifest: Manifest) -> FloatArray:
    """Return the largest difference of each text's result, as `Agreement` defines it by task.

    Shape: (n, dimension) twice to (n,).
    """
    if manifest.task == "reranking":
        scale = np.abs(expected).max() or 1
        differences: FloatArray = np.abs(found - expected).max(axis=1) / scale
        return differences
    return row_differences(found, expected, normalized=manifest.normalized)


def check_probes(loaded: LoadedBundle, bundle: Bundle) -> float:
    """Return the largest difference from the probes' results, as `Agreement` defines it.

    Raises BundleCorruptError if it exceeds the export's tolerance times `SLACK`.
    """
    agreement = bundle.manifest.agreement
    if agreement is None:
        raise BundleCorruptError(
            f"{bundle.path} was never compared with its original: export the model again"
        )
    kind = PROBES[bundle.manifest.task]
    texts, expected = read_probes(bundle)
    found = kind.compute(loaded, texts)
    if found.shape != expected.shape:
        raise BundleCorruptError(
            f"{bundle.path} gives {kind.results} of shape {found.shape} for its probes; expected "
            f"{expected.shape}; {REMEDY}"
        )
    differences = differences_of(found, expected, bundle.manifest)
    worst = int(differences.argmax())  # NaN counts as the largest
    difference = float(differences[worst])
    allowed = SLACK[bundle.manifest.precision] * agreement.tolerance
    if not difference <= allowed:
        raise BundleCorruptError(
            f"{bundle.path} gives {kind.results} that differ by {difference:.1e} "
            f"from the original's on this machine, most on {start_of(texts[worst])}; at most "
            f"{allowed:g} is expected. Report your processor and the version of onnxruntime"
        )
    return difference


def read_probes(bundle: Bundle) -> tuple[list[Any], FloatArray]:
    """Return the probes' texts or pairs and the original's results, shape (n, dimension).

    A text that has a row for each token is repeated for each. Raises BundleCorruptError if the file
    is invalid.
    """
    kind = PROBES[bundle.manifest.task]
    try:
        probes = json.loads(bundle.probes.read_text(encoding="utf-8"))
        texts = [kind.read(probe[kind.text]) for probe in probes]
        found = [probe[kind.result] for probe in probes]
        if kind.by_token:
            texts = [text for text, rows in zip(texts, found, strict=True) for _ in rows]
            found = [row for rows in found for row in rows]
        results = np.array(found, np.float64)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise _invalid_probes(bundle, reprlib.repr(error)) from error
    if not texts or results.shape != (len(texts), bundle.manifest.dimension):
        raise _invalid_probes(bundle, f"their shape is {results.shape}")
    if not (np.abs(results) <= np.finfo(np.float32).max).all():
        raise _invalid_probes(bundle, "not all are finite")
    return texts, results.astype(np.float32)


def _invalid_probes(bundle: Bundle, why: str) -> BundleCorruptError:
    content = PROBES[bundle.manifest.task].content
    return BundleCorruptError(f"{bundle.probes} holds no {content} ({why}); {REMEDY}")


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
    with load_any(bundle) as loaded:
        check_probes(loaded, bundle)


if __name__ == "__main__":
    try:
        _load_and_run(Path(sys.argv[1]))
    except EmbedrtError:
        sys.exit(REFUSED)
