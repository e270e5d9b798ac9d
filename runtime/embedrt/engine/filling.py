"""Fills a batch, first with texts of the call whose turn it is, then with texts of other calls.

A batch has as many texts as fit in a number of tokens, at least one, and no more than the batch
size that their callers set. Texts of calls that are far ahead are left out, because they would only
delay the result of the call whose turn it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, islice
from operator import itemgetter

from embedrt.engine.call import Call, Group, Job

# In measurements, throughput is constant from 128 to 1,024 tokens per batch. Graphs lose throughput
# with larger batches, whose activations exceed the core's cache. Small batches reduce memory use
# and the time that a new text waits for a running batch.
TOKENS_PER_BATCH = 256
FEWEST_TOKENS = 128  # splitting smaller batches among workers costs more than it gains
FEWEST_MIXED_TOKENS = 64  # of the kernels, whose time per token depends less on the batch

# Tokens of a batch while new calls arrive beside one that has run for long, which then takes 3 %
# more time in measurements.
SHORT_BATCH = 64


def fill_equal(call: Call, group: Group, tokens: int, waiting: Mapping[bytes, Job]) -> list[Job]:
    """Return jobs of a group: the call's own, then others in order of arrival.

    `waiting` are all waiting jobs of the group, whose token counts are equal.
    """
    mine = call.waiting[group]
    others = (
        job
        for key, job in waiting.items()
        if key not in mine
        and not all(other.share.is_far_ahead_of(call.share) for other, _ in job.rows)
    )
    return list(islice(chain(mine.values(), others), _most(group, tokens)))


def fill_mixed(call: Call, group: Group, tokens: int, calls: Iterable[Call]) -> list[Job]:
    """Return jobs of any token counts: the call's own, from `group` on, then those of `calls`.

    Of each call, the longest that fit come first. Once the batch is half full, it ends at the first
    text of another call that does not fit, so that it is not compared with all that wait.
    """
    longest, batch_size = group
    texts = batch_size or tokens
    chosen = dict(islice(call.waiting[group].items(), _most(group, tokens)))
    left = tokens - longest * len(chosen)
    for other in chain([call], calls):
        if len(chosen) == texts:
            break
        if not other.waiting or other.share.is_far_ahead_of(call.share):
            continue
        for count, size in sorted(other.waiting, key=itemgetter(0), reverse=True):
            if size != batch_size:
                continue
            for key, job in other.waiting[count, size].items():
                if count > left or len(chosen) == texts:
                    if 2 * left < tokens and other is not call:
                        return list(chosen.values())
                    break
                if key not in chosen:
                    chosen[key] = job
                    left -= count
    return list(chosen.values())


def _most(group: Group, tokens: int) -> int:
    """Return the number of texts of a group that fit in a batch of `tokens` tokens, at least 1."""
    count, batch_size = group
    most = max(1, tokens // max(1, count))
    return most if batch_size is None else min(most, batch_size)
