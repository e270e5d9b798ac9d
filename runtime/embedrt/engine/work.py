"""The work of a worker: tokenizing texts, or running a batch."""

from __future__ import annotations

from dataclasses import dataclass

from embedrt.engine.call import Call, Job, TokenIds


@dataclass(frozen=True, slots=True)
class Tokenize:
    """The next untokenized texts of some calls."""

    slices: tuple[tuple[Call, range], ...]
    """Each call with the part of its texts to tokenize."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts to run together."""

    jobs: tuple[Job, ...]

    @property
    def texts(self) -> list[TokenIds]:
        """The token ids of each text, see `Job.ids`."""
        return [job.ids for job in self.jobs]

    @property
    def tokens(self) -> int:
        """Number of tokens of all texts."""
        return sum(job.tokens for job in self.jobs)
