"""Tests that a model's files cannot make transformers download and run kernels from the hub."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import transformers.integrations.hub_kernels as hub
import transformers.modeling_utils as loading
from sentence_transformers import SentenceTransformer

from embedrt_export.proof.oracle import Oracle
from model_folders import BEFORE_5, make_small, write_json

NAMES_A_KERNEL = {"attn_implementation": "someone/kernel"}
TAKES_KERNELS = {"use_kernels": True}
INTERNAL = "_attn_implementation_internal"
# The key that config.json may have in one major version of transformers and not in the other.
IGNORED = "attn_implementation" if BEFORE_5 else INTERNAL
ATTACKS = [
    ("config.json", NAMES_A_KERNEL),
    ("config.json", {"_attn_implementation": "someone/kernel"}),
    ("config.json", {INTERNAL: "someone/kernel"}),
    ("sentence_bert_config.json", {"model_args": NAMES_A_KERNEL}),
    ("sentence_bert_config.json", {"model_kwargs": NAMES_A_KERNEL}),
    ("sentence_bert_config.json", {"config_args": NAMES_A_KERNEL}),
    ("sentence_bert_config.json", {"config_kwargs": NAMES_A_KERNEL}),
    ("sentence_bert_config.json", {"model_args": TAKES_KERNELS}),
    ("sentence_bert_config.json", {"model_kwargs": TAKES_KERNELS}),
]


class FetchedError(BaseException):
    """Code would be downloaded and run. Not an Exception, which could be mistaken for a refusal."""


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate that the package kernels is installed."""

    def fetch(*_arguments: Any, **_options: Any) -> None:
        raise FetchedError

    monkeypatch.setattr(loading, "is_kernels_available", lambda: True)
    if BEFORE_5:
        monkeypatch.setattr(loading, "load_and_register_kernel", fetch)
        monkeypatch.setattr(loading.PreTrainedModel, "kernelize", fetch)
    else:
        monkeypatch.setattr(hub, "is_kernels_available", lambda: True)
        monkeypatch.setattr(hub, "get_kernel", fetch)
        monkeypatch.setattr(hub, "register_kernel_mapping_transformers", fetch)


@pytest.fixture(params=ATTACKS, ids=str)
def attack(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model whose files name a kernel."""
    folder = make_small(tmp_path / "model", "bert")
    name, change = request.param
    file = folder / name
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    write_json(file, content | change)
    return folder


def test_none_is_fetched(attack: Path) -> None:
    Oracle(attack)


def test_one_would_be(attack: Path) -> None:
    ignored = f'"{IGNORED}"' in (attack / "config.json").read_text(encoding="utf-8")
    with nullcontext() if ignored else pytest.raises(FetchedError):
        SentenceTransformer(str(attack), device="cpu", local_files_only=True)
