"""One contender in a process of its own. Reads requests from stdin, one JSON object per line.

The process runs in the contender's environment, so this module imports only the standard library
before it imports the contender. Import, load and first vector of the contender are timed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.contenders import Contender, Setup

STATUS = Path("/proc/self/status")
SHORT_FIRST = 8  # short texts before a long one
SETTLED = 2.0  # seconds, enough for the work in the background that they started

Answer = dict[str, Any]


class Worker:
    """A loaded contender. Its public methods are the requests that it answers."""

    def __init__(self, file: Path, setup: Setup, started: float) -> None:
        """Import a module and load its contender; the process began at `started` (monotonic)."""
        before = time.monotonic()
        spec = importlib.util.spec_from_file_location(f"contender_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        imported = time.monotonic()
        after_import = memory_bytes("VmRSS")
        contender: Contender = module
        self._encode = contender.load(setup)
        loaded = time.monotonic()
        self._started = started
        self._compiles = getattr(contender, "COMPILES", False)
        self.stages = {
            "python": before - started,
            "import": imported - before,
            "load": loaded - imported,
        }
        self.memory = {"after import": after_import, "after load": memory_bytes("VmRSS")}

    def first(self, texts: str) -> Answer:
        """Time the first and the second vector. The difference is the time spent compiling."""
        text = _read(texts)[0]
        loaded = time.monotonic()
        self._encode([text])
        done = time.monotonic()
        self._encode([text])
        again = time.monotonic() - done
        stages = {**self.stages, "first vector": done - loaded}
        # A sum, which leaves out the wait for this request.
        stages = {"total": sum(stages.values()), **stages}
        compiling = {"compile": max(0.0, done - loaded - again)}
        return stages | compiling if self._compiles else stages

    def vectors(self, texts: str, output: str, batch: int | None = None) -> Answer:
        """Embed all texts in one call, or in calls of `batch` texts, and save the vectors."""
        import numpy as np  # noqa: PLC0415 - importing it counts as start-up

        every = _read(texts)
        size = batch or len(every)
        blocks = [self._encode(every[at : at + size]) for at in range(0, len(every), size)]
        np.save(output, np.concatenate(blocks))
        return {}

    def call(self, texts: str) -> Answer:
        """Time one call with all texts."""
        every = _read(texts)
        start = time.perf_counter()
        self._encode(every)
        return {"seconds": [_since(start)]}

    def each(self, texts: str, pause: float = 0.0) -> Answer:
        """Time one call per text, with a pause of `pause` seconds before each."""
        seconds = []
        for text in _read(texts):
            time.sleep(pause)
            seconds.append(self._time_one(text))
        return {"seconds": seconds}

    def concurrent(self, texts: str, callers: int) -> Answer:
        """Time `callers` threads that share the texts, each calling with one text at a time."""
        every = _read(texts)
        with ThreadPoolExecutor(callers) as threads:
            start = time.perf_counter()
            latencies = list(threads.map(self._time_one, every))
            return {"seconds": [_since(start)], "latency": latencies}

    def remember(self, texts: str) -> Answer:
        """Embed the texts in one call and return the memory of the process."""
        self._encode(_read(texts))
        return self.memory | {"peak": memory_bytes("VmHWM"), "now": memory_bytes("VmRSS")}

    def long(self, texts: str) -> Answer:
        """Time one text, and return the memory that it takes above that of the loaded model.

        A few short texts come before it, after which embedrt has loaded the model for all cores.
        """
        for _ in range(SHORT_FIRST):
            self._encode(["a short text"])
        time.sleep(SETTLED)
        loaded, start = memory_bytes("VmRSS"), time.perf_counter()
        self._encode(_read(texts))
        seconds = _since(start)
        return {"seconds": [seconds], "working memory": memory_bytes("VmHWM") - loaded}

    def _time_one(self, text: str) -> float:
        start = time.perf_counter()
        self._encode([text])
        return _since(start)


def _since(start: float) -> float:
    """Return the seconds since `start`, rounded to microseconds to keep the rows short."""
    return round(time.perf_counter() - start, 6)


def memory_bytes(field: str) -> int:
    """Return this process's resident memory, now (VmRSS) or at its peak (VmHWM); 0 if unknown."""
    lines = STATUS.read_text(encoding="utf-8").splitlines() if STATUS.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def _read(texts: str) -> list[str]:
    every: list[str] = json.loads(Path(texts).read_text(encoding="utf-8"))
    return every


def main() -> NoReturn:
    """Load the contender that the argument describes, then answer requests."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to stderr

    def answer(content: Answer) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    def fail(error: Exception) -> None:
        lines = str(error).strip().splitlines() or [""]
        answer({"error": f"{type(error).__name__}: {lines[0]}"[:300]})

    def listen() -> None:
        for line in sys.stdin:
            requests.put(line)
        os._exit(0)  # the harness has ended, and some libraries hang during shutdown

    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=listen, daemon=True).start()
    try:
        job = json.loads(sys.argv[1])
        setup = Setup(**job["setup"] | {"artifact": Path(job["setup"]["artifact"])})
        worker = Worker(Path(job["file"]), setup, job["started"])
    except Exception as error:  # noqa: BLE001 - any error of a library is a result
        fail(error)
        os._exit(1)
    answer(worker.stages)
    while True:
        request = json.loads(requests.get())
        try:
            answer(getattr(worker, request.pop("do"))(**request))
        except Exception as error:  # noqa: BLE001 - as above
            fail(error)


if __name__ == "__main__":
    main()
