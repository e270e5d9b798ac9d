"""Turns: contenders do a workload in rounds, so that a slow phase of the machine affects all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.errors import ContenderError

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turns:
    """The answers of all contenders."""

    answers: dict[str, list[Answer]]
    """One for each repetition, of each contender that never failed."""
    failures: dict[str, str]
    """Reasons of the others."""


def take_turns(
    names: Sequence[str],
    repetitions: int,
    warm_up: Callable[[str], object],
    once: Callable[[str], Answer],
) -> Turns:
    """Warm up each contender, then have all of them do the work once a round.

    Another contender is first in each round. A contender that fails takes no further part.
    """
    turns = Turns({name: [] for name in names}, {})
    for turn in range(-1, repetitions):
        first = max(turn, 0) % len(names)
        for name in (*names[first:], *names[:first]):
            if name in turns.failures:
                continue
            try:
                if turn < 0:
                    warm_up(name)
                else:
                    turns.answers[name].append(once(name))
            except ContenderError as error:
                turns.failures[name] = str(error)
                del turns.answers[name]
    return turns
