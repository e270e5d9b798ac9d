"""Reads the license from a model's card."""

from __future__ import annotations

import logging
from pathlib import Path

from huggingface_hub import RepoCard

CARD = "README.md"
FENCE = "---"
LARGEST_BYTES = 1_000_000  # metadata with many evaluation results takes about 100 kB
LONGEST_LICENSE = 100

logger = logging.getLogger(__name__)


def read_license(folder: Path) -> str | None:
    """Return the license that the model's card declares; None if it declares none.

    A card that cannot be read is logged as a warning, because only the bundle's README depends on
    the license.
    """
    card = folder / CARD
    if not card.is_file():
        return None
    try:
        with card.open("rb") as file:
            text = file.read(LARGEST_BYTES).decode("utf-8-sig", errors="replace")
        declared = _metadata(text).get("license")
    except Exception as error:  # noqa: BLE001 - YAML parsers and file systems raise many kinds
        problem = f"it cannot be read ({' '.join(str(error).split())[:200]})"
    else:
        if declared is None:
            return None
        if isinstance(declared, str) and _is_name(declared):
            return declared
        problem = f"its license is {str(declared)[:50]!r}, which is not the name of a license"
    logger.warning("%s: %s; the bundle will not name a license", card, problem)
    return None


def _metadata(text: str) -> dict[str, object]:
    """Return the YAML metadata between the first two fences."""
    first, *lines = text.splitlines() or [""]
    ends = [index for index, line in enumerate(lines) if line.rstrip() == FENCE]
    if first.rstrip() != FENCE or not ends:
        return {}
    inside = "\n".join(line for line in lines[: ends[0]] if line.strip())
    metadata: dict[str, object] = RepoCard(f"{FENCE}\n{inside}\n{FENCE}\n").data.to_dict()
    return metadata


def _is_name(declared: str) -> bool:
    return 0 < len(declared) <= LONGEST_LICENSE and declared.isprintable()
