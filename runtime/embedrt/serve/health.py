"""Whether the server can compute: ready, draining, failing or stalled."""

from __future__ import annotations

import asyncio
from itertools import count
from time import monotonic

import numpy as np

from embedrt.loaded import LoadedBundle
from embedrt.serve.kinds import KINDS

STALLED_SECONDS = 30.0  # with texts waiting and no batch begun
PROBE_SECONDS = 10.0


class Health:
    """The state that an orchestrator's probes query."""

    def __init__(self, loaded: LoadedBundle) -> None:
        self._loaded = loaded
        self._kind = KINDS[loaded.manifest.task]
        self._failed = False
        self._numbers = count()
        self._batches, self._since = -1, monotonic()
        self.draining = False
        """Whether the server is shutting down: it still answers requests, but is not ready."""

    def note_failure(self) -> None:
        """Record that a run failed; the next probe then computes a text."""
        self._failed = True

    async def complaint(self) -> str | None:
        """Return why the server is not ready; None if it is."""
        if self.draining:
            return "the server is shutting down"
        if self._is_stalled():
            return f"texts wait, and no batch has begun for {STALLED_SECONDS:g} seconds"
        if self._failed:
            return await self._probe()
        return None

    def _is_stalled(self) -> bool:
        stats = self._loaded.stats()
        if stats.batches != self._batches or not stats.waiting_texts:
            self._batches, self._since = stats.batches, monotonic()
        return monotonic() - self._since > STALLED_SECONDS

    async def _probe(self) -> str | None:
        # A text that is in no cache. Requests would get the same errors.
        text = f"probe {next(self._numbers)} at {monotonic()}"
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                found = await self._kind.probe(self._loaded, text)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a probe reports every failure
            return f"{self._kind.doing} fails: {type(error).__name__}"
        if not np.isfinite(found).all():
            return f"{self._kind.doing} gives numbers that are not finite"
        self._failed = False
        return None
