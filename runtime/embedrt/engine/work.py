"""What a worker does next: tokenize texts, or run a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedrt.engine.call import Call, Job, TokenIds


@dataclass(frozen=True, slots=True)
class Tokenize:
    """Work for a worker: the next untokenized texts of some calls."""

    slices: tuple[tuple[Call, range], ...]
    """Each call with the part of its texts to tokenize."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Work for a worker: texts of equal token count to run together."""

    jobs: tuple[Job, ...]

    @property
    def input_ids(self) -> TokenIds:
        """Shape: (batch, tokens), or (batch, 2, tokens) with a second input."""
        first = self.jobs[0].ids
        return first[None] if len(self.jobs) == 1 else np.stack([job.ids for job in self.jobs])
