"""Tests of what users of the exporter depend on: its function, in any environment."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from embedrt import Bundle
from embedrt_export import export_model
from model_folders import make_small


def test_the_signature() -> None:
    parameters = inspect.signature(export_model).parameters.values()
    assert [str(parameter) for parameter in parameters] == [
        "model: 'str'",
        "output: 'Path | None' = None",
        "revision: 'str | None' = None",
        "files: 'Path | None' = None",
        "precision: 'Precision' = 'fp32'",
        "calibration: 'Path | None' = None",
        "ignore_remote_code: 'bool' = False",
    ]
    kinds = [parameter.kind.description for parameter in parameters]
    assert kinds == ["positional or keyword", *["keyword-only"] * 6]


def test_where_kernels_are_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable says what runs bundles, and a bundle is not one before it is compared."""
    monkeypatch.setenv("EMBEDRT_KERNELS", "require")
    folder = make_small(tmp_path / "model", "bert")
    bundle = export_model(str(folder), output=tmp_path / "bundle")
    assert Bundle.open(bundle).manifest.agreement is not None
