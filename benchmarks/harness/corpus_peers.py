"""Peers that embed a corpus with their own way to use two cores, each in its own environment.

``python -m benchmarks.harness.corpus_peers PEER MODEL TEXTS`` prints the seconds from the call to
the last vector. The processes that a peer starts for a call are included, because its caller waits
for them; loading the model in the process of the caller is not.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.checkout import run_command
from benchmarks.contenders import Setup
from benchmarks.harness.artifacts import Artifacts
from benchmarks.harness.environments import QUIET, interpreter

PROCESSES = 2
ARTIFACTS = {"sentence-transformers": "source", "fastembed": "fastembed"}

EncodeAll = Callable[[list[str]], object]
Seconds = Callable[[Sequence[str]], float]
"""Embeds texts and returns the seconds that it took."""


def peers_of(model: str) -> dict[str, Seconds]:
    """Return the peers by name. Makes what they need first."""
    artifacts = Artifacts(model)

    def peer(name: str) -> Seconds:
        python, folder = str(interpreter(name)), str(artifacts.artifact(ARTIFACTS[name]))

        def seconds(texts: Sequence[str]) -> float:
            with TemporaryDirectory() as temporary:
                file = Path(temporary) / "texts.json"
                file.write_text(json.dumps(list(texts)), encoding="utf-8")
                command = [python, "-m", __name__, name, folder, str(file)]
                return float(run_command(command, QUIET))

        return seconds

    return {f"{name}, {PROCESSES} processes": peer(name) for name in ARTIFACTS}


def sentence_transformers(model: str) -> EncodeAll:
    """Return `encode` with a process for each device."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - of its environment

    encoder = SentenceTransformer(model, device="cpu")
    return lambda texts: encoder.encode(texts, device=["cpu"] * PROCESSES)


def fastembed(model: str) -> EncodeAll:
    """Return `embed` with parallel processes."""
    from benchmarks.contenders import fastembed_local  # noqa: PLC0415 - of its environment

    encoder = fastembed_local.encoder(Setup("fastembed", Path(model), 0, "throughput", 1))
    return lambda texts: list(encoder.embed(texts, batch_size=1, parallel=PROCESSES))


def main(peer: str, model: str, file: str) -> None:
    """Print the seconds of one peer."""
    load = {"sentence-transformers": sentence_transformers, "fastembed": fastembed}[peer]
    encode_all = load(model)
    texts = json.loads(Path(file).read_text(encoding="utf-8"))
    start = time.perf_counter()
    encode_all(texts)
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
