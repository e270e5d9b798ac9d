"""What was promised, beside what was found."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.plan import MAIN_MODEL
from benchmarks.results import OURS, SECONDS, Results

PATH = Path(__file__).with_name("targets.toml")
PEERS = "peers"

Form = Literal["speed", "time", "difference", "value"]


@dataclass(frozen=True)
class Target:
    """One promise; `targets.toml` tells what the fields mean."""

    what: str
    contender: str
    workload: str
    form: Form
    model: str = MAIN_MODEL
    measure: str = SECONDS
    against: tuple[str, ...] | Literal["peers"] = ()
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

    @property
    def limit(self) -> str:
        """The limit, for a person."""
        number = self.at_least if self.at_least is not None else self.at_most
        return f"{'≥' if self.at_least is not None else '≤'} {self.shown or self.figure(number)}"

    def figure(self, value: float | None) -> str:
        """Write a figure as the limit is written: as a fraction of 1 where it is one."""
        if value is None:
            return "not measured"
        if self.shown.startswith("1/") and value:
            return f"1/{1 / value:.1f}"
        return f"{value:.{self.digits}f}"

    def holds(self, value: float) -> bool:
        """Whether this value keeps the promise."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most


@dataclass(frozen=True)
class Finding:
    """A target and what was found; no value where it or all it is held against is missing."""

    target: Target
    value: float | None
    peer: str = ""
    """The one that it was held against: the fastest, where there are several."""
    missing: tuple[str, ...] = ()
    """Peers that the target names and that have no figure: they could have been faster."""

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        return None if self.value is None else self.target.holds(self.value)


@dataclass(frozen=True)
class Targets:
    """All promises, and the contenders that are yardsticks instead of peers."""

    targets: tuple[Target, ...]
    yardsticks: tuple[str, ...]

    def peers(self, results: Results) -> tuple[str, ...]:
        """Return every contender that is neither ours nor a yardstick."""
        return tuple(
            name for name in results.contenders if name not in OURS and name not in self.yardsticks
        )

    def findings(self, results: Results) -> list[Finding]:
        """Look up each target."""
        return [
            _find(target, _against(target, self.peers(results)), results) for target in self.targets
        ]


def load_targets(path: Path = PATH) -> Targets:
    """Read the targets; raise ValueError or TypeError naming the one that is wrong."""
    content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return Targets(
        targets=tuple(
            Target(**fields | {"against": _names(fields.get("against", ()))})
            for fields in content["target"]
        ),
        yardsticks=tuple(content["yardsticks"]),
    )


def _names(against: str | list[str]) -> tuple[str, ...] | Literal["peers"]:
    if isinstance(against, str):
        if against != PEERS:
            raise ValueError(f"against={against!r}; expected {PEERS!r} or a list of contenders")
        return "peers"
    return tuple(against)


def _against(target: Target, peers: tuple[str, ...]) -> tuple[str, ...]:
    return peers if target.against == PEERS else tuple(target.against)


def _find(target: Target, against: tuple[str, ...], results: Results) -> Finding:
    key = (target.workload, target.measure, target.model)
    ours = results.median(target.contender, *key)
    missing = tuple(name for name in against if results.row(name, *key) is None)
    if target.form == "value":
        return Finding(target, None if ours is None else ours / target.per)
    peer = results.fastest(against, *key)
    if ours is None or peer is None:
        return Finding(target, None, peer or "", missing)
    theirs = results.median(peer, *key)
    assert theirs is not None  # it is the fastest of those that have one
    if target.form == "difference":
        return Finding(target, ours - theirs, peer, missing)
    return Finding(
        target, theirs / ours if target.form == "speed" else ours / theirs, peer, missing
    )
