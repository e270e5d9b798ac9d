"""Forks of the process: calls each engine before a fork, and again afterwards."""

from __future__ import annotations

# This module acquires its lock before a fork. A thread that holds an engine's lock may wait for it,
# so the engines must be prepared first. Functions before a fork are called in the reverse order of
# their registration: the module is imported before they are registered below.
import concurrent.futures.thread  # noqa: F401
import os
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

FORKED = (
    "this process was forked while an Embedder of its parent was running, and may hang on its "
    "locks; fork before encoding, or load the bundle after the fork"
)


class Forkable(Protocol):
    """An object with threads or locks that a forked child must not inherit."""

    def prepare_to_fork(self) -> None:
        """Release the resources that a child cannot use, and acquire none until the fork."""

    def continue_after_fork(self) -> None:
        """Continue in the parent."""

    def restart_in_fork(self) -> None:
        """Reset the object in the child."""


_FOLLOWED: WeakSet[Forkable] = WeakSet()


def follow_forks(engine: Forkable) -> None:
    """Call the methods of `engine` at each fork, as long as it exists."""
    _FOLLOWED.add(engine)


def call_in_forks(reset: Callable[[], None]) -> None:
    """Call a function in each forked child, for the locks of a module."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=reset)


def _prepare_all() -> None:
    for engine in list(_FOLLOWED):
        engine.prepare_to_fork()


def _continue_all() -> None:
    for engine in list(_FOLLOWED):
        engine.continue_after_fork()


def _restart_all() -> None:
    for engine in list(_FOLLOWED):
        engine.restart_in_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_prepare_all, after_in_parent=_continue_all, after_in_child=_restart_all
    )
