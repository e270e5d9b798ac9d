"""The place of a bundle on a hub, and the file that records it in a pulled bundle."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

HUB = "hub:"
NOTE = ".hub.json"
SPELLING = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository and a revision."""

    id: str
    """Organization or user, and name."""
    revision: str | None
    """Branch, tag or commit; None for the main branch."""

    @classmethod
    def parse(cls, spelling: str, revision: str | None = None) -> Self:
        """Parse ``org/name`` or ``org/name@REVISION``, with or without ``hub:`` before it.

        Raises ValueError if it is neither, or names a revision besides `revision`.
        """
        match = SPELLING.fullmatch(spelling.removeprefix(HUB))
        if match is None:
            raise ValueError(
                f"{spelling!r} is not a place on a hub; expected org/name or org/name@COMMIT"
            )
        if match[2] and revision:
            raise ValueError(f"{spelling!r} names a revision already; leave out {revision!r}")
        return cls(id=match[1], revision=match[2] or revision)

    @property
    def commit(self) -> str | None:
        """The revision if it is a commit, otherwise None."""
        return self.revision if self.revision and COMMIT.fullmatch(self.revision) else None

    def at(self, commit: str) -> Self:
        """Return the same repository at a commit."""
        return type(self)(id=self.id, revision=commit)

    def __str__(self) -> str:
        return f"{HUB}{self.id}@{self.revision}" if self.revision else f"{HUB}{self.id}"

    def note(self, folder: Path) -> None:
        """Record this place in a bundle's folder."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        (folder / NOTE).write_text(text, encoding="utf-8")


def noted_place(folder: Path) -> Place | None:
    """Return the recorded place of a pulled bundle; None for any other bundle."""
    with suppress(OSError, ValueError, TypeError):
        return Place(**json.loads((folder / NOTE).read_text(encoding="utf-8")))
    return None
