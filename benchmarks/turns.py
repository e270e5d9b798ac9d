"""Contenders take turns, so that a machine that slows down slows down all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.failure import ContenderError

Answer = dict[str, Any]


@dataclass(frozen=True)
class Turns:
    """What came of it."""

    answers: dict[str, list[Answer]]
    """Of each contender that never failed, one a repetition."""
    failures: dict[str, str]
    """Why the others did."""


def take_turns(
    names: Sequence[str],
    repetitions: int,
    warm_up: Callable[[str], object],
    once: Callable[[str], Answer],
) -> Turns:
    """Let each contender warm up, then all do the work once, and once more, and so on.

    The one that begins changes from round to round. A contender that fails is out.
    """
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    failures: dict[str, str] = {}
    for turn in range(-1, repetitions):
        first = turn % len(names) if turn >= 0 else 0
        for name in (*names[first:], *names[:first]):
            if name in failures:
                continue
            try:
                if turn < 0:
                    warm_up(name)
                else:
                    answers[name].append(once(name))
            except ContenderError as error:
                failures[name] = str(error)
                del answers[name]
    return Turns(answers, failures)
