"""Fixtures for the export tests: small bundles, each exported once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from comparison import Pair, export_small, small_pair
from sharing import made_once

Exported = Callable[[str], Pair]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Limit torch to one thread: with small models, more threads mostly spin."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def traced_electra(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A model of a known family with an activation that only a traced graph can have."""
    config = {"hidden_act": "tanh"}
    parent = made_once(
        tmp_path_factory,
        "traced-electra",
        lambda parent: export_small(parent, "electra", config=config),
    )
    return small_pair(parent, "electra")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return a function that maps a family to a small model and its bundle."""

    def export(family: str) -> Pair:
        parent = made_once(
            tmp_path_factory, f"small-{family}", lambda parent: export_small(parent, family)
        )
        return small_pair(parent, family)

    return export
