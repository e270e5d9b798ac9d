"""Makes small corpora, and computes their expected output without embedrt.corpus."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedrt import Embedder
from embedrt.engine.sessions import Sessions
from forked import FORKED

ODD = ["", " ", "w1", "w2 w3", "w4\nw5", "w1 " * 20, "\u2028", "null", "NA", 'say "w6"', "w7,w8"]


def texts_of(rows: int, start: int = 0) -> list[str | None]:
    """Return texts: one in ten null, one in ten empty, many repeated."""
    return [
        None if row % 10 == 0 else "" if row % 10 == 1 else f"w{row % 7} w{row % 3} " * (row % 4)
        for row in range(start, start + rows)
    ]


def write_parquet(
    folder: Path, files: int = 3, rows: int = 250, *, row_group_size: int = 60
) -> Path:
    """Write a folder of Parquet files with the columns id and text."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        start = number * rows
        table = pa.table({"id": range(start, start + rows), "text": texts_of(rows, start)})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=row_group_size)
    return folder


def expected_vectors(bundle: Path, texts: Sequence[str | None]) -> list[NDArray[Any] | None]:
    """Return the vectors of all texts from one call of `encode`."""
    with Embedder.load(bundle) as embedder:
        vectors = iter(embedder.encode([text for text in texts if text is not None]))
    return [None if text is None else next(vectors) for text in texts]


def expected_digest(rows: Iterable[tuple[str, int, NDArray[Any] | None]]) -> str:
    """Return the digest of rows, each given as path, row number and vector."""
    total = 0
    for path, number, vector in rows:
        content = b"" if vector is None else np.asarray(vector, "<f4").tobytes()
        hashed = hashlib.sha256(path.encode() + b"\0" + number.to_bytes(8, "little") + content)
        total += int.from_bytes(hashed.digest(), "little")
    return f"{total % 2**256:064x}"


def digest_of_source(folder: Path, bundle: Path, column: str = "text") -> str:
    """Return the digest that the output of this folder of Parquet files must have."""
    found: list[tuple[str, int, str | None]] = []
    for file in sorted(folder.rglob("*.parquet")):
        texts = pq.read_table(file).column(column).to_pylist()
        path = file.relative_to(folder).as_posix()
        found += [(path, row, text) for row, text in enumerate(texts)]
    vectors = expected_vectors(bundle, [text for _, _, text in found])
    return expected_digest(
        (path, row, vector) for (path, row, _), vector in zip(found, vectors, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Hold:
    """A point at which a process stops computing, so that a test finds it there at any speed."""

    folder: Path
    parts: int
    """No batch runs, and Ray gets no task, when the output has so many parts and `gate` exists."""

    @property
    def output(self) -> Path:
        """The output in the folder."""
        return self.folder / "output"

    @property
    def gate(self) -> Path:
        """A file; the process goes on when it is removed."""
        return self.folder / "gate"

    @property
    def begun(self) -> Path:
        """A file that exists as soon as the first batch runs."""
        return self.folder / "begun"

    def apply(self) -> None:
        """Hold the batches of this process, or the tasks that it gives to Ray."""
        run = Sessions.run

        def held(*arguments: Any, **options: Any) -> Any:
            self.begun.touch()
            self._wait()
            return run(*arguments, **options)

        Sessions.run = held  # type: ignore[method-assign]
        if find_spec("ray"):
            from embedrt.corpus import on_ray

            all_runs = on_ray._all_runs

            def held_runs(*arguments: Any) -> Iterator[Any]:
                for tasks in all_runs(*arguments):
                    self._wait()
                    yield tasks

            on_ray._all_runs = held_runs  # type: ignore[assignment]

    def _wait(self) -> None:
        while self.gate.exists() and len(parts_in(self.output)) >= self.parts:
            time.sleep(0.005)


# The command line with a `Hold`, of which the first arguments are the fields.
HELD_COMMAND = """
import sys
from pathlib import Path
from corpora import Hold, run_command

run_command(sys.argv[3:], Hold(Path(sys.argv[1]), int(sys.argv[2])))
"""


def held_command(hold: Hold, *arguments: str) -> dict[str, Any]:
    """Return what `subprocess.Popen` needs to start `embedrt` with a hold."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {
        "args": [sys.executable, "-c", HELD_COMMAND, str(hold.folder), str(hold.parts), *arguments],
        "env": {**os.environ, "PYTHONPATH": path},
    }


def hold_at(folder: Path, parts: int) -> Hold:
    """Return a hold at so many parts, until its gate is removed."""
    hold = Hold(folder, parts)
    hold.gate.touch()
    return hold


def run_command(arguments: Sequence[str], hold: Hold | None = None) -> None:
    """Run `embedrt` in this process, one that a test started."""
    from embedrt.cli import main

    if hold is not None:
        hold.apply()
    sys.exit(main(arguments))


def forked(*arguments: str | Path, hold: Hold | None = None) -> Any:
    """Start `embedrt` in a process with its imports done, so that it can be killed early."""
    process = FORKED.Process(target=run_command, args=([*map(str, arguments)], hold))
    process.start()
    return process


def parts_in(output: Path) -> dict[str, int]:
    """Return the parts with the time of their last change."""
    return {file.name: file.stat().st_mtime_ns for file in output.glob("[0-9]*.parquet")}


def names(folder: Path) -> list[str]:
    """Return the sorted names of the entries in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def files_of(output: Path) -> list[Path]:
    """Return the files of vectors in an output."""
    return [output / name for name in names(output) if not name.startswith("_")]
