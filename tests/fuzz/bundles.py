"""Loads mutated bundles in child processes: ``python tests/fuzz/bundles.py``."""

from __future__ import annotations

import argparse
import hashlib
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from embedrt import Bundle, Embedder
from embedrt.errors import BundleError, NonFiniteEmbeddingError, TextError
from embedrt.loaded import LoadOptions
from embedrt.verify import check_probes
from fuzz.mutations import write_mutated
from fuzz.seed_corpus import TEXTS

SECONDS = 120.0  # per bundle; generous, because the machine may be busy
MEMORY = 4 << 30  # bytes of address space, in addition to that of the imports
REMEDY = re.compile(
    "copy or export the bundle again|export the model again|embedrt export|embedrt verify|[Rr]eport"
)
Write = Callable[[Path, int], str]  # writes the bundle with a number; returns its description
CONTEXT = get_context("spawn")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of loading one mutated bundle."""

    number: int
    kind: str
    """``encoded``, the name of an embedrt error, or one of ``fault``, ``died`` and ``hung``."""
    detail: str
    digest: str = ""
    """Hash of the bundle's files."""

    @property
    def is_lost(self) -> bool:
        """Whether the process that loaded the bundle crashed or hung."""
        return self.kind in ("died", "hung")

    @property
    def is_fault(self) -> bool:
        """Whether the outcome reveals a bug."""
        return self.is_lost or self.kind == "fault"


class Child:
    """A process that loads bundles until one of them crashes it."""

    def __init__(self, write: Write, folder: Path) -> None:
        self._connection, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_serve, args=(theirs, write, folder))
        self._process.start()
        theirs.close()

    def try_one(self, number: int, seconds: float) -> Outcome:
        """Write and load a bundle. The child cannot be used again if the outcome `is_lost`."""
        try:
            self._connection.send(number)
            if not self._connection.poll(seconds):
                return Outcome(number, "hung", f"longer than {seconds:g} seconds")
            outcome: Outcome = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            return Outcome(number, "died", f"exit status {self._process.exitcode}")
        return outcome

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()


def run(write: Write, numbers: Iterable[int], *, seconds: float = SECONDS) -> Iterator[Outcome]:
    """Load the bundles with these numbers, each within `seconds`; replace crashed processes."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as children:
        child = None
        for number in numbers:
            if child is None:
                child = Child(write, Path(folder))
                children.callback(child.end)
            outcome = child.try_one(number, seconds)
            yield outcome
            if outcome.is_lost:
                children.close()
                child = None


def _serve(connection: Connection, write: Write, parent: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")
    while True:
        try:
            number = connection.recv()
        except EOFError:
            return
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            connection.send(_outcome(write, Path(folder), number))


def _outcome(write: Write, folder: Path, number: int) -> Outcome:
    what = write(folder, number)
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(f"{file.name} {file.lstat().st_mode} ".encode())
        digest.update(file.read_bytes() if file.is_file() and not file.is_symlink() else b"")
    kind, detail = _load_and_encode(folder)
    return Outcome(number, kind, f"{what}\n{detail}", digest.hexdigest())


def _load_and_encode(folder: Path) -> tuple[str, str]:
    try:
        bundle = Bundle.open(folder)
        with Embedder(bundle, LoadOptions(threads=1)) as embedder:
            vectors = embedder.encode(TEXTS)
            if vectors.shape != (len(TEXTS), embedder.dimension) or not np.isfinite(vectors).all():
                return "fault", f"vectors of shape {vectors.shape}: {vectors}"
            check_probes(embedder, bundle)
    except (NonFiniteEmbeddingError, TextError) as error:
        return type(error).__name__, str(error)
    except BundleError as error:
        text = str(error)
        is_helpful = str(folder) in text and REMEDY.search(text) and len(text) < 1000
        return (type(error).__name__ if is_helpful else "fault"), repr(error)
    except BaseException:  # noqa: BLE001 - tokenizer panics do not derive from Exception
        return "fault", traceback.format_exc()
    return "encoded", ""


def main() -> None:
    """Run for some minutes; print every fault and the count of each outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--number", type=int, help="only this one")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes

    def numbers() -> Iterator[int]:
        number = 0
        while time.monotonic() < end:
            yield number
            number += 1

    counts: Counter[str] = Counter()
    chosen = numbers() if options.number is None else [options.number]
    for outcome in run(partial(write_mutated, options.seed), chosen):
        counts[outcome.kind] += 1
        if outcome.is_fault or options.number is not None:
            case = f"--seed {options.seed} --number {outcome.number}"
            print(f"{case}: {outcome.kind}: {outcome.detail}", flush=True)  # noqa: T201
    print(dict(counts))  # noqa: T201
    sys.exit(any(Outcome(0, kind, "").is_fault for kind in counts))


if __name__ == "__main__":
    main()
