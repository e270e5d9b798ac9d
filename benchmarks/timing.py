"""The seconds of work, by the clock and on the processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Times:
    """The seconds of each repetition."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, work: Callable[[], object]) -> None:
        """Measure one repetition."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Measure each way once in every round, so that a slow phase of the machine affects all."""
    found = {name: Times() for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].add(way)
    return found


def each_call(call: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """Return the seconds of one call for each text."""
    seconds = []
    for text in texts:
        start = time.perf_counter()
        call(text)
        seconds.append(time.perf_counter() - start)
    return seconds
