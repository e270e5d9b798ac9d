"""One contender in a process of its own: does what it is asked on stdin, a line of JSON each.

It runs with nothing but the contender's environment, so it imports only the standard library until
the contender's module is. That module's imports, its load and its first vector are timed.
"""

from __future__ import annotations

import time

BORN = time.monotonic()  # before anything else: what came earlier is Python's own start

import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import queue  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NoReturn, TextIO  # noqa: E402

from benchmarks.contenders import Contender, Encode, Model, Purpose  # noqa: E402

STATUS = Path("/proc/self/status")

Answer = dict[str, Any]


class Worker:
    """A contender, loaded."""

    def __init__(
        self,
        file: str,
        name: str,
        folders: tuple[str, str],
        max_tokens: int,
        purpose: Purpose,
        threads: int,
        started: float,
    ) -> None:
        """Import and load; `started` is the time of the monotonic clock when we were started."""
        source, artifact = map(Path, folders)
        before = time.monotonic()
        module = _import(Path(file))
        imported = time.monotonic()
        after_import = resident_bytes()
        self._encode: Encode = module.load(
            name, Model(source, artifact, max_tokens), purpose, threads
        )
        loaded = time.monotonic()
        self._started = started
        self.stages = {
            "python": before - started,
            "import": imported - before,
            "load": loaded - imported,
        }
        self.memory = {"after import": after_import, "after load": resident_bytes()}

    def first(self, text: str) -> Answer:
        """Time the first vector, and the same once more."""
        loaded = time.monotonic()
        self._encode([text])
        done = time.monotonic()
        self._encode([text])
        again = time.monotonic() - done
        stages = self.stages | {"first vector": done - loaded, "total": done - self._started}
        return stages | {"compile": max(0.0, done - loaded - again)}

    def vectors(self, texts: str, output: str, batch: int | None = None) -> Answer:
        """Embed all texts in one call, or some in a call, and save the vectors."""
        import numpy as np  # noqa: PLC0415 - only here, for start-up is measured

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
        """Time a call for each text, with a pause of so many seconds before it."""
        seconds = []
        for text in _read(texts):
            time.sleep(pause)
            seconds.append(self._time_one(text))
        return {"seconds": seconds}

    def concurrent(self, texts: str, callers: int) -> Answer:
        """Time so many threads that share the texts, each calling with one text at a time."""
        every = _read(texts)
        latencies: list[list[float]] = [[] for _ in range(callers)]
        gate = threading.Barrier(callers + 1)

        def caller(number: int) -> None:
            gate.wait()
            for text in every[number::callers]:
                latencies[number].append(self._time_one(text))

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        gate.wait()
        start = time.perf_counter()
        for thread in threads:
            thread.join()
        seconds = _since(start)
        merged = [value for one in latencies for value in one]
        if len(merged) < len(every):
            raise RuntimeError(f"{len(every) - len(merged)} concurrent calls failed")
        return {"seconds": [seconds], "latency": merged}

    def remember(self, texts: str) -> Answer:
        """Embed the texts in one call, and tell the memory."""
        self._encode(_read(texts))
        return self.memory | {"peak": peak_bytes(), "now": resident_bytes()}

    def _time_one(self, text: str) -> float:
        start = time.perf_counter()
        self._encode([text])
        return _since(start)


def _since(start: float) -> float:
    """Return the seconds since then to the microsecond: more would only be long to write down."""
    return round(time.perf_counter() - start, 6)


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where the system does not tell."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most that this process ever held; 0 where the system does not tell."""
    return _status("VmHWM")


def _status(field: str) -> int:
    lines = STATUS.read_text(encoding="utf-8").splitlines() if STATUS.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def _read(texts: str) -> list[str]:
    every: list[str] = json.loads(Path(texts).read_text(encoding="utf-8"))
    return every


def _import(file: Path) -> Contender:
    spec = importlib.util.spec_from_file_location(f"contender_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python module")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    contender: Contender = module
    return contender


def _keep_stdout() -> TextIO:
    """Take stdout for the answers, and let whatever a library prints go to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _listen(requests: queue.SimpleQueue[str]) -> None:
    """Pass on what is asked; end the process as soon as nobody can ask any more."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # whatever is under way, and without a library's own end, which may never come


def main() -> NoReturn:
    """Load as the argument says, answer, and then answer line after line."""
    answers = _keep_stdout()

    def answer(content: Answer) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    def refuse(error: Exception) -> None:
        lines = str(error).strip().splitlines() or [""]
        answer({"error": f"{type(error).__name__}: {lines[0]}"[:300]})

    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    try:
        worker = Worker(**json.loads(sys.argv[1]))
    except Exception as error:  # noqa: BLE001 - whatever a library raises is a result
        refuse(error)
        os._exit(1)
    answer(worker.stages)
    while True:
        request = json.loads(requests.get())
        try:
            answer(getattr(worker, request.pop("do"))(**request))
        except Exception as error:  # noqa: BLE001
            refuse(error)


if __name__ == "__main__":
    main()
