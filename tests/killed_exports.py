"""Exports in separate processes that are killed before they finish."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from embedrt.bundle.manifest import Manifest
from embedrt.bundle.writer import staged_bundle
from embedrt.cli import main
from forked import FORKED
from waiting import wait_until

STAGED = ".bundle.partial-*"


@dataclass(frozen=True, slots=True)
class Pause:
    """A moment at which an export waits, so that a test finds it there at any speed."""

    name: str
    """The file in the staging folder whose appearance is the moment; empty for the folder's."""
    marker: Path
    """A file that exists while the export waits; the export goes on when it is removed."""

    def apply(self, output: Path) -> None:
        """Let an export in this process wait at its next change of a file after the moment."""
        left = 1

        def wait(event: str, _arguments: tuple[object, ...]) -> None:
            nonlocal left
            if left and event in CHANGES:
                left -= 1  # the search itself causes events
                if any(output.parent.glob(f"{STAGED}/{self.name}" if self.name else STAGED)):
                    self.marker.touch()
                    while self.marker.exists():
                        time.sleep(0.005)
                else:
                    left += 1

        sys.addaudithook(wait)

    def wait(self) -> None:
        """Wait until the export waits."""
        wait_until(self.marker.exists, 300)


def start_export(folder: Path, output: Path, pause: Pause | None = None) -> BaseProcess:
    """Start ``embedrt export`` in a separate process."""
    process = FORKED.Process(target=export, args=(folder, output, pause))
    process.start()
    return process


def stage_until_killed(bundle: Path, target: Path, step: int) -> int | None:
    """Stage a copy of a bundle to `target` in a process killed at the `step`-th file change.

    Returns the exit status: that of SIGKILL, or 0 if there are fewer changes.
    """
    process = FORKED.Process(target=_stage_until_killed, args=(bundle, target, step))
    process.start()
    process.join()
    return process.exitcode


def export(folder: Path, output: Path, pause: Pause | None = None) -> None:
    """Run ``embedrt export`` in this process, which it ends."""
    if pause is not None:
        pause.apply(output)
    logging.disable()
    sys.exit(main(["export", str(folder), "--output", str(output)]))


def _stage_until_killed(bundle: Path, target: Path, step: int) -> None:
    left = step

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        path = str(arguments[0]) if arguments else ""
        mine = path.startswith(str(target.parent)) or event == "os.rmdir"
        if mine and event in CHANGES and (event != "open" or "w" in str(arguments[1])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    manifest = Manifest.from_json((bundle / "manifest.json").read_text(encoding="utf-8"))
    with staged_bundle(target) as staging:
        for name in manifest.files:
            staging.add(name, (bundle / name).read_bytes())
        staging.seal(manifest)
        staging.publish()


CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "tempfile.mkdtemp"}
