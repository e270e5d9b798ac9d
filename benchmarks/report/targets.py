"""The targets of ``targets.toml``, and whether the results meet them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import MAIN_MODEL, OURS
from benchmarks.report.results import SECONDS, Results

PATH = Path(__file__).with_name("targets.toml")
PEERS: Literal["peers"] = "peers"

Form = Literal["speed", "time", "difference", "value"]


@dataclass(frozen=True, slots=True)
class Target:
    """One target; ``targets.toml`` explains the fields."""

    what: str
    contender: str
    workload: str
    form: Form
    model: str = MAIN_MODEL
    measure: str = SECONDS
    against: Sequence[str] | Literal["peers"] = ()
    per: float = 1.0
    digits: int = 2
    at_least: float | None = None
    at_most: float | None = None
    shown: str = ""

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.what}: expected one of at_least and at_most")
        if (self.form == "value") == bool(self.against):
            raise ValueError(f"{self.what}: a value stands alone, every other form is against some")
        if isinstance(self.against, str) and self.against != PEERS:
            raise ValueError(f"against={self.against!r}; expected {PEERS!r} or names of contenders")

    @property
    def limit(self) -> str:
        """The limit as text."""
        number = self.at_least if self.at_least is not None else self.at_most
        return f"{'≥' if self.at_least is not None else '≤'} {self.shown or self.figure(number)}"

    def figure(self, value: float | None) -> str:
        """Format a figure like the limit, as a fraction of 1 if the limit is one."""
        if value is None:
            return "not measured"
        if self.shown.startswith("1/") and value:
            return f"1/{1 / value:.1f}"
        return f"{value:.{self.digits}f}"

    def is_met(self, value: float) -> bool:
        """Whether this value meets the target."""
        least = -math.inf if self.at_least is None else self.at_least
        most = math.inf if self.at_most is None else self.at_most
        return least <= value <= most


@dataclass(frozen=True, slots=True)
class Finding:
    """A target and its figure, which is None if it, or all that it is compared with, is missing."""

    target: Target
    value: float | None
    peer: str = ""
    """The contender for comparison, the fastest if there are several."""
    missing: tuple[str, ...] = ()
    """Contenders of the target without a figure, which might be faster."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if it was not measured."""
        return None if self.value is None else self.target.is_met(self.value)


@dataclass(frozen=True, slots=True)
class Targets:
    """All targets, and the contenders that are yardsticks rather than peers."""

    targets: tuple[Target, ...]
    yardsticks: Sequence[str]

    def peers(self, results: Results) -> tuple[str, ...]:
        """Return every contender that is neither embedrt nor a yardstick."""
        others = (*OURS, *self.yardsticks)
        return tuple(name for name in results.contenders if name not in others)

    def findings(self, results: Results) -> list[Finding]:
        """Look up each target."""
        peers = self.peers(results)
        return [
            _find(target, peers if target.against == PEERS else target.against, results)
            for target in self.targets
        ]


def load_targets(path: Path = PATH) -> Targets:
    """Read the targets; raise ValueError or TypeError that names an invalid field."""
    content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    targets = tuple(Target(**one) for one in content["target"])
    return Targets(targets, tuple(content["yardsticks"]))


def _find(target: Target, against: Sequence[str], results: Results) -> Finding:
    medians = results.of_model(target.model).medians(target.workload, target.measure)
    ours = medians.get(target.contender)
    if target.form == "value":
        return Finding(target, None if ours is None else ours / target.per)
    missing = tuple(name for name in against if name not in medians)
    measured = [name for name in against if name in medians]
    peer = min(measured, key=lambda name: medians[name], default="")
    if ours is None or not peer:
        return Finding(target, None, peer, missing)
    theirs = medians[peer]
    if target.form == "difference":
        return Finding(target, ours - theirs, peer, missing)
    quotient = theirs / ours if target.form == "speed" else ours / theirs
    return Finding(target, quotient, peer, missing)
