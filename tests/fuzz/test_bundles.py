"""Tests that each mutated bundle loads and encodes, or is refused with a helpful message."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="the fuzzer bounds its processes as POSIX does")

from fuzz.bundles import SECONDS, Outcome, run
from fuzz.crashing_graphs import write_crashing_bundle
from fuzz.mutations import write_mutated

SEED, CASES = 5, 800


def write_nothing(_folder: Path, _number: int) -> str:
    return "an empty folder"


def write_forever(_folder: Path, _number: int) -> str:
    time.sleep(600)
    return "never"


def write_too_much(_folder: Path, _number: int) -> str:
    bytearray(1 << 33)
    return "more than there may be"


def test_mutated_bundles_load_or_raise_our_errors() -> None:
    outcomes = list(run(partial(write_mutated, SEED), range(CASES)))
    faults = [outcome for outcome in outcomes if outcome.is_fault]
    assert not faults, "\n\n".join(map(str, faults))
    assert len({outcome.digest for outcome in outcomes}) >= 700
    # If every bundle failed the size check, nothing else would be tested.
    kinds = Counter(outcome.kind for outcome in outcomes)
    assert kinds["encoded"] >= 100
    assert kinds["BundleFormatError"] >= 50
    behind = Counter(
        part
        for outcome in outcomes
        for part in (
            "does not load",
            "not a tokenizer",
            "not an ONNX graph",
            "no texts",
            "is not a file",
        )
        if part in outcome.detail
    )
    assert all(behind[part] >= 5 for part in behind)
    assert len(behind) == 5


def test_the_same_number_gives_the_same_bundle() -> None:
    first, second = (
        [outcome.digest for outcome in run(partial(write_mutated, SEED), range(20))]
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("write", "kind", "detail", "seconds"),
    [
        (write_nothing, "BundleNotFoundError", "an empty folder", SECONDS),
        (write_forever, "hung", "longer than 3 seconds", 3),
        (write_crashing_bundle, "died", "exit status -8", SECONDS),
        (write_too_much, "died", "exit status 1", SECONDS),
    ],
)
def test_the_fuzzer_itself(write: partial[str], kind: str, detail: str, seconds: float) -> None:
    """The fuzzer detects a crash and a hang, and continues with the next bundle."""
    outcomes: list[Outcome] = []
    for outcome in run(write, range(2), seconds=seconds):
        outcomes.append(outcome)
        assert outcome.kind == kind
        assert outcome.detail.startswith(detail)
    assert [outcome.number for outcome in outcomes] == [0, 1]
