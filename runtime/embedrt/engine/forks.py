"""Forks of the process: calls each engine before a fork, and again in the child."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """An object with threads or locks that a forked child must not inherit."""

    def prepare_to_fork(self) -> None:
        """Release the resources that a child cannot use."""

    def restart_in_fork(self) -> None:
        """Reset the object in the child."""


_FOLLOWED: WeakSet[Forkable] = WeakSet()


def follow_forks(engine: Forkable) -> None:
    """Call the methods of `engine` at each fork, as long as it exists."""
    _FOLLOWED.add(engine)


def _prepare_all() -> None:
    for engine in list(_FOLLOWED):
        engine.prepare_to_fork()


def _restart_all() -> None:
    for engine in list(_FOLLOWED):
        engine.restart_in_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare_all, after_in_child=_restart_all)
