"""Exports in separate processes that are killed before they finish."""

from __future__ import annotations

import logging
import os
import signal
import sys
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from embedrt.bundle.manifest import Manifest
from embedrt.bundle.writer import staged_bundle
from embedrt.cli import main

# The fork server has imported the large libraries, so its children start quickly.
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["embedrt_export", "killed_exports"])


def start_export(folder: Path, output: Path) -> BaseProcess:
    """Start ``embedrt export`` in a separate process."""
    process = CONTEXT.Process(target=_export, args=(folder, output))
    process.start()
    return process


def stage_until_killed(bundle: Path, target: Path, step: int) -> int | None:
    """Stage a copy of a bundle to `target` in a process killed at the `step`-th file change.

    Returns the exit status: that of SIGKILL, or 0 if there are fewer changes.
    """
    process = CONTEXT.Process(target=_stage_until_killed, args=(bundle, target, step))
    process.start()
    process.join()
    return process.exitcode


def _export(folder: Path, output: Path) -> None:
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
