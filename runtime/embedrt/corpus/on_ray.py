"""The engine for a Ray cluster: each run of parts is a task, and each worker loads one Embedder.

The output folder is the checkpoint. Ray's own data pipeline was slower, did not keep the order, and
its checkpoint hung or duplicated rows after a kill.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import signal
import stat
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import Any

# Read when Ray is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from embedrt.arguments import check_count
from embedrt.corpus.on_ray_worker import is_there, make_parts, pack_bundle
from embedrt.corpus.output import read_facts
from embedrt.corpus.part import Outcome, Run, failed, runs
from embedrt.corpus.plan import Part, Plan
from embedrt.corpus.work import Work
from embedrt.engine.cpu import available_threads
from embedrt.errors import CorpusError, EmbedrtError, MissingExtraError

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise MissingExtraError("Ray is not installed: pip install 'embedrt[corpus,ray]'") from error

LOG = logging.getLogger("embedrt.corpus.ray")

ATTEMPTS = 3
OBJECT_STORE_BYTES = 100 << 20  # results are small; the default is 30 % of the memory
AHEAD = 2  # tasks for each worker: one runs, one waits
WAIT_SECONDS = 1.0
# Formats without random access are read from the start, which a task should not do for each part.
PARTS_OF_LINES = 4
SOCKET_ROOM = 40  # characters of a temporary folder; a socket's path has at most 107


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """Runs parts as tasks of a Ray cluster.

    Uses the cluster that this process is connected to, if any. A cluster that it starts itself ends
    with the run.
    """

    address: str | None = None
    """Address of an existing cluster, or ``"auto"``; None starts a cluster on this machine."""
    workers: int | None = None
    """Tasks at a time; by default as many as there are cores."""
    cores_per_worker: int = 1

    def __post_init__(self) -> None:
        check_count("workers", self.workers, 1, "or None")
        check_count("cores_per_worker", self.cores_per_worker, 1)

    def run(
        self, work: Work, plan: Plan, wanted: Iterator[Part], stop: Event
    ) -> Iterator[tuple[Outcome, int]]:
        """Yield each part's outcome with the tokens computed for it."""
        with self._cluster() as is_ours:
            self._check_cores()
            # On our own cluster every worker sees the bundle's folder.
            shipped = None if is_ours else ray.put(pack_bundle(work.bundle))
            # Ray passes a reference in a list on; only a node that lacks the folder reads it.
            common = ray.put(work), [shipped], self.cores_per_worker
            # Exceptions too: an object store or a mounted folder may fail once.
            task = ray.remote(
                num_cpus=self.cores_per_worker, max_retries=ATTEMPTS - 1, retry_exceptions=True
            )(make_parts)
            waiting: dict[Any, Run] = {}
            for run in _all_runs(plan, wanted):
                while len(waiting) >= self._most_waiting(is_ours=is_ours):
                    yield from _finished(work, waiting)
                if stop.is_set():
                    break
                waiting[task.remote(*common, run)] = run
            while waiting:
                yield from _finished(work, waiting)

    def _most_waiting(self, *, is_ours: bool) -> int:
        if self.workers is not None and not is_ours:
            return self.workers
        cores = float(ray.cluster_resources().get("CPU", 1.0))
        return AHEAD * max(1, math.floor(cores / self.cores_per_worker))

    def _check_cores(self) -> None:
        nodes = (node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])
        most = max(nodes, default=0.0)
        if most < self.cores_per_worker:
            raise CorpusError(
                f"cores_per_worker={self.cores_per_worker}, and no node of the cluster has more "
                f"than {most:g} cores"
            )

    @contextmanager
    def _cluster(self) -> Iterator[bool]:
        """Connect to a cluster; yield whether this process started it and will end it."""
        if ray.is_initialized():
            yield False
            return
        with ExitStack() as stack:
            options: dict[str, Any] = {"address": self.address}
            if self.address is None:
                workers = self.workers or max(1, available_threads() // self.cores_per_worker)
                stack.enter_context(_token_in_memory())
                options = {
                    "address": "local",
                    "num_cpus": workers * self.cores_per_worker,
                    "object_store_memory": OBJECT_STORE_BYTES,
                    "include_dashboard": False,
                    "_temp_dir": stack.enter_context(_temporary_folder()),
                }
            else:
                _report_readable_token()
            with _same_signal_handlers(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Ray's future versions
                _connect(options)
            stack.callback(ray.shutdown)
            yield self.address is None


def _connect(options: dict[str, Any]) -> None:
    try:
        ray.init(logging_level="ERROR", log_to_driver=False, **options)
    except Exception as error:  # Ray raises plain ones, too
        where = "start" if options["address"] == "local" else f"answer at {options['address']}"
        raise CorpusError(f"Ray did not {where}: {error}") from error


def _all_runs(plan: Plan, wanted: Iterator[Part]) -> Iterator[Run]:
    """Group parts into tasks."""
    for number, parts in groupby(wanted, key=lambda part: part.file):
        is_parquet = plan.files[number].source.format == "parquet"
        yield from runs(plan, parts, 1 if is_parquet else PARTS_OF_LINES)


def _finished(work: Work, waiting: dict[Any, Run]) -> Iterator[tuple[Outcome, int]]:
    """Wait briefly for at least one task, and yield the outcomes of the finished ones."""
    done, _ = ray.wait(list(waiting), num_returns=1, timeout=WAIT_SECONDS)
    for reference in done:
        run = waiting.pop(reference)
        try:
            yield from ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, EmbedrtError):  # the output, or the bundle
                raise error.cause from None
            yield from _lost(work, run, error.cause)
        except RayError as error:  # the worker or its node died in every attempt
            yield from _lost(work, run, error)


def _lost(work: Work, run: Run, error: Exception) -> Iterator[tuple[Outcome, int]]:
    """Yield the outcomes of a failed task, some of whose parts may have been written."""
    (reason, *_) = str(error).strip().splitlines() or [type(error).__name__]
    lost = CorpusError(f"failed {ATTEMPTS} times, finally with {type(error).__name__}: {reason}")
    for part in run.parts:
        there = is_there(work, part)
        yield (read_facts(work.output, part.name) if there else failed(run, part, lost)), 0


@contextmanager
def _temporary_folder() -> Iterator[str]:
    """Make a folder for Ray's logs and sockets, whose paths must be short, and remove it."""
    parent = tempfile.gettempdir()
    if len(parent) > SOCKET_ROOM:
        parent = "/tmp"  # noqa: S108 - mkdtemp makes the folder private
    folder = tempfile.mkdtemp(prefix="embedrt-ray-", dir=parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _token_in_memory() -> Iterator[None]:
    """Pass a token to our own cluster by its environment, which only this user can read.

    Ray would write one to ``~/.ray/auth_token``, readable by everyone under the usual umask.
    """
    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = _token()
    try:
        yield
    finally:
        os.environ.pop("RAY_AUTH_TOKEN", None)


@cache
def _token() -> str:
    """Return this process's token. Cached, because Ray reads it only once."""
    return secrets.token_hex(32)


def _report_readable_token() -> None:
    """Warn if others can read the token of the user's clusters."""
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    try:
        mode = file.stat().st_mode
    except OSError:
        return
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        LOG.warning("%s can be read by others, who can then run code: chmod 600 %s", file, file)


@contextmanager
def _same_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
