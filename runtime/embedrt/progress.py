"""A progress bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    total: int | None, *, shown: bool, unit: str = "text"
) -> Iterator[Callable[[int], object]]:
    """Yield a function that advances the bar by a number of units; no bar unless `shown`."""
    if not shown or sys.stderr is None:  # in a program without a console
        yield _nothing
        return
    # Imported here because it is not needed without a bar.
    from tqdm import tqdm  # noqa: PLC0415

    with tqdm(total=total, unit=f" {unit}", unit_scale=True, dynamic_ncols=True) as bar:
        yield bar.update


def _nothing(_finished: int) -> None:
    pass


def increments(count: Callable[[], int], advance: Callable[[int], object]) -> Callable[[], None]:
    """Return a function that calls `advance` with the growth of a count since its last call."""
    last = 0

    def report() -> None:
        nonlocal last
        now = count()
        advance(now - last)
        last = now

    return report
