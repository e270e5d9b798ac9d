"""Small bundles, each exported once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from comparison import Pair, export_small, small_pair
from sharing import made_once

Exported = Callable[[str], Pair]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Torch's threads wait for each other in a busy loop: with small models, most of the time."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return a function from a family's name to a small model of it and its bundle."""

    def export(family: str) -> Pair:
        parent = made_once(
            tmp_path_factory, f"small-{family}", lambda parent: export_small(parent, family)
        )
        return small_pair(parent, family)

    return export
