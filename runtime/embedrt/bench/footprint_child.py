"""The child process of `footprint`: imports, loads, embeds, and prints times and memory.

It is run by its path and never imported. Run as a module of the package, it would start only after
the import of the package, which is part of what it measures.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import json  # noqa: E402
import sys  # noqa: E402

import embedrt  # noqa: E402, F401
from embedrt.bench.memory import peak_bytes, resident_bytes  # noqa: E402

IMPORTED = time.perf_counter()


def main(bundle: str) -> None:
    """Run one text, then the JSON list of texts on stdin; print times and memory as JSON."""
    sizes = {"after_import": resident_bytes()}
    from embedrt.bench.runs import load, runs_of  # noqa: PLC0415  # after the measured import

    model = load(bundle)
    runs, loaded = runs_of(model), time.perf_counter()
    sizes["after_load"] = resident_bytes()
    runs.run_one(model, "How many people live in London?")
    moments = [STARTED, IMPORTED, loaded, time.perf_counter()]
    runs.run(model, json.load(sys.stdin))
    sizes |= {"after_texts": resident_bytes(), "peak": peak_bytes()}
    json.dump({"moments": moments, "sizes": sizes}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
