"""Forks of the process: each engine is told before one, and again in the child."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """What has threads or locks that a forked child must not inherit."""

    def prepare_to_fork(self) -> None:
        """Release what a child cannot use."""

    def restart_in_fork(self) -> None:
        """Reset in the child."""


_FOLLOWED: WeakSet[Forkable] = WeakSet()


def follow_forks(engine: Forkable) -> None:
    """Tell `engine` about each fork, for as long as it exists."""
    _FOLLOWED.add(engine)


def _prepare_all() -> None:
    for engine in list(_FOLLOWED):
        engine.prepare_to_fork()


def _restart_all() -> None:
    for engine in list(_FOLLOWED):
        engine.restart_in_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare_all, after_in_child=_restart_all)
