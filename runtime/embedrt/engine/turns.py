"""Whose turn it is: the unfinished calls, and the order in which their texts run.

A turn goes to the share for which the fewest tokens have run. The oldest call has a turn at least
every few turns, regardless of its share, so that a steady stream of new calls cannot starve it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from heapq import heappop, heappush

from embedrt.engine.call import Call, Share

TURNS_SHARED = 64  # turns after the arrival of a call during which more are expected

OLDEST_EVERY = 4  # the oldest call has at least one turn in this many


class Turns:
    """The unfinished calls in order of arrival. `untokenized` are those with texts to tokenize."""

    def __init__(self, untokenized: Container[Call]) -> None:
        self._untokenized = untokenized
        self._calls: dict[Call, None] = {}
        """In order of arrival."""
        self._by_share: dict[Share, dict[Call, None]] = {}
        self._scheduled: list[tuple[int, int, Share]] = []
        """A heap of (served, number, share). An entry is stale if `Share.served` has changed."""
        self._number = 0
        """The number of the last entry; of shares served equally, the first scheduled is next."""
        self._turn = self._oldest_turn = 0
        self._shared_until = 0
        """The turn until which new calls are expected beside one that has run for long."""
        self._time = 0
        """The virtual time: the largest `served` of a share at the start of its turn."""

    def __contains__(self, call: Call) -> bool:
        return call in self._calls

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    @property
    def are_shared(self) -> bool:
        """Whether new calls are expected beside one that has run for long."""
        return self._turn < self._shared_until

    def has_work(self, call: Call) -> bool:
        """Whether any text of a call waits to be tokenized or run."""
        return call in self._untokenized or bool(call.waiting)

    def add(self, call: Call) -> bool:
        """Add a call, which is then to be scheduled; return whether another has run for long."""
        self._calls[call] = None
        self._by_share.setdefault(call.share, {})[call] = None
        call.share.catch_up(self._time)
        is_behind = next(iter(self._calls)).share.is_far_ahead_of(call.share)
        if is_behind:
            self._shared_until = self._turn + TURNS_SHARED
        return is_behind

    def remove(self, call: Call) -> None:
        """Remove a call."""
        del self._calls[call]
        calls = self._by_share[call.share]
        del calls[call]
        if not calls:
            del self._by_share[call.share]

    def schedule(self, share: Share) -> None:
        """Schedule a share for a turn if any of its calls has work."""
        if self._first_with_work(share) is not None:
            self._number += 1
            heappush(self._scheduled, (share.served, self._number, share))

    def next(self) -> Call | None:
        """Begin a turn, and return its call; None if none has work."""
        self._turn += 1
        is_due = self._turn - self._oldest_turn >= OLDEST_EVERY
        call = (self._oldest() if is_due else None) or self._least_served()
        if call is not None and call is self._oldest():
            self._oldest_turn = self._turn
        return call

    def _oldest(self) -> Call | None:
        return next(filter(self.has_work, self._calls), None)

    def _least_served(self) -> Call | None:
        while self._scheduled:
            served, _, share = heappop(self._scheduled)
            call = self._first_with_work(share)
            if call is not None and served == share.served:
                self._time = max(self._time, served)
                return call
        return None

    def _first_with_work(self, share: Share) -> Call | None:
        return next(filter(self.has_work, self._by_share.get(share, ())), None)
