"""Tests of checking a bundle against its original's vectors, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Bundle, Embedder
from embedrt.errors import BundleCorruptError
from embedrt.verify import SLACK, check_probes
from tiny_bundle import make_tiny

TOLERANCE = 1e-6  # of the tiny bundle's manifest


def check(folder: Path) -> float:
    bundle = Bundle.open(folder)
    with Embedder(bundle) as embedder:
        return check_probes(embedder, bundle)


def probe(text: str, **components: float) -> dict[str, Any]:
    embedding = np.zeros(10)
    for name, component in components.items():
        embedding[int(name[1:])] = component
    return {"text": text, "embedding": embedding.tolist()}


def test_real_model(minilm: Path) -> None:
    assert check(minilm) < 1e-5


def test_right_vectors(tmp_path: Path) -> None:
    probes = json.dumps([probe("w1 w1", w1=2), probe("é", w0=1)])
    assert check(make_tiny(tmp_path / "tiny", probes=probes)) == 0


@pytest.mark.parametrize(("normalized", "scale"), [(True, 1), (False, 4)])
def test_the_difference_is_absolute_or_relative(
    tmp_path: Path, normalized: bool, scale: int
) -> None:
    limit = SLACK["fp32"] * TOLERANCE * scale
    for part, good in ((0.9, True), (1.2, False)):
        probes = json.dumps([probe("w1 w1 w1 w1", w1=4, w2=part * limit)])
        folder = make_tiny(tmp_path / "tiny", probes=probes, normalized=normalized)
        if good:
            assert check(folder) == pytest.approx(part * limit / scale, rel=1e-3)
        else:
            with pytest.raises(BundleCorruptError, match=r"differ by 1\.2e-05 .*at most 1e-05"):
                check(folder)


def test_the_worst_probe_is_named(tmp_path: Path) -> None:
    probes = json.dumps([probe("w1", w1=1), probe("w2 w2", w2=3), probe("w3", w3=1.1)])
    with pytest.raises(
        BundleCorruptError, match=r"differ by 1\.0e\+00 .*, most on 'w2 w2'; at most"
    ):
        check(make_tiny(tmp_path / "tiny", probes=probes, normalized=True))


def test_prompts_are_not_applied(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny", prompts={"query": "w5 "}, default_prompt_name="query")
    assert check(folder) == 0


def test_a_bundle_that_was_never_proven(tmp_path: Path) -> None:
    with pytest.raises(
        BundleCorruptError, match="never compared with its original: export the model again"
    ):
        check(make_tiny(tmp_path / "tiny", agreement=None))
