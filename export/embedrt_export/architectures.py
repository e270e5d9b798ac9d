"""Prints the architecture list of models/README.md: ``python -m embedrt_export.architectures``."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from embedrt_export.families import READERS
from embedrt_export.traced.known import TRACED, UNTRACEABLE

ROWS = """\
| `model_type` in config.json | graph |
|---|---|
| {drawn} | built from the weights |
| {traced} | traced by PyTorch's exporter; one of each is exported in the tests |
| {refused} and mixtures of experts | none: refused, with the cause |
| any other | traced if it can be; otherwise refused, with the reason |
"""


def architecture_table() -> str:
    """Return the table in Markdown, from the lists of the exporter."""
    return ROWS.format(
        drawn=_listed(READERS),
        traced=_listed(TRACED),
        refused=_listed(UNTRACEABLE),
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


if __name__ == "__main__":
    sys.stdout.write(architecture_table())
