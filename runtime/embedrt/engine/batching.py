"""The queue: selects the texts that run next and groups them into batches.

A free worker takes texts of the call whose turn it is (see `turns`), and fills the batch with
waiting texts of any call. In ONNX Runtime, all texts of a batch have the same number of tokens, so
nothing is padded and the graph needs no attention mask. The kernels mix texts of any token counts.
The texts of small calls are tokenized first, so that the batch can be filled from all waiting
texts. A text's vector does not depend on the rest of its batch, and calls can share batches without
changing any result.

New texts should not wait for a call that has run for long. In the kernels, the batches of such a
call pause between layers while a small call runs. A run of ONNX Runtime cannot be interrupted.
While new calls arrive beside such a call, batches are therefore small, and one worker takes no long
texts.

The queue has no threads and no clock. The scheduler calls it while holding its lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import itemgetter

from embedrt.engine.at_once import FEWEST_TOKENS_AT_ONCE, Ran, texts_at_once
from embedrt.engine.cache import VectorCache
from embedrt.engine.call import Call, Group, Job, Results, Row, TokenIds
from embedrt.engine.filling import (
    FEWEST_MIXED_TOKENS,
    FEWEST_TOKENS,
    SHORT_BATCH,
    TOKENS_PER_BATCH,
    fill_equal,
    fill_mixed,
)
from embedrt.engine.runner import count_tokens
from embedrt.engine.turns import Turns
from embedrt.engine.work import Batch, Tokenize
from embedrt.pair import Text, characters

TEXTS_AT_ONCE = 32  # texts tokenized at once; more take longer per text, and delay new calls
TEXTS_AHEAD = 1024  # texts to keep tokenized, of one large call or of all small ones

CHARACTERS_PER_TOKEN = 4  # average of English text, to estimate token counts before tokenization


class Queue:
    """The unfinished calls and their texts.

    With `runs_at_once`, the texts of a call are tokenized by several workers at once, and their
    vectors come with the token counts, in `put_vectors` in place of `put`. With `mixes`, a batch
    may have texts of different token counts. With `pauses`, batches can be interrupted.
    """

    def __init__(
        self,
        *,
        max_tokens: int,
        cache: VectorCache | None = None,
        runs_at_once: bool = False,
        mixes: bool = False,
        pauses: bool = False,
    ) -> None:
        self.batches = 0
        self.coalesced = 0
        self.cache_hits = 0
        self.waiting_tokens = 0
        """Tokens of tokenized texts that wait to be run."""
        self.untokenized_tokens = 0
        """Estimated tokens of texts that wait to be tokenized."""
        self._max_tokens = max_tokens
        self._runs_at_once = runs_at_once
        self._mixes = mixes
        self._pauses = pauses
        self._fewest_tokens = FEWEST_MIXED_TOKENS if mixes else FEWEST_TOKENS
        self._cache = cache
        self._untokenized: dict[Call, None] = {}
        """Calls with texts whose tokenization has not started."""
        self._turns = Turns(self._untokenized)
        self._urgent: dict[Call, None] = {}
        """Small calls that came beside one that has run for long."""
        self._jobs: dict[bytes, Job] = {}
        """Waiting and running jobs, by token ids."""
        self._running: dict[bytes, Job] = {}
        """Running jobs, by token ids."""
        self._groups: dict[Group, dict[bytes, Job]] = {}
        """Waiting jobs by group and token ids, in order of arrival."""

    def calls(self) -> list[Call]:
        """Return the calls in order of arrival."""
        return list(self._turns)

    def untokenized_calls(self) -> list[Call]:
        """Return the calls with texts whose tokenization has not started."""
        return list(self._untokenized)

    def __contains__(self, call: Call) -> bool:
        return call in self._turns

    def useful_workers(self) -> int:
        """Return the number of additional workers for which there is enough work."""
        groups = bool(self._groups) if self._mixes else len(self._groups)
        batches = max(groups, self.waiting_tokens // self._fewest_tokens)
        if self._untokenized and self._runs_at_once:
            return batches + 1 + self.untokenized_tokens // FEWEST_TOKENS_AT_ONCE
        return batches + bool(self._untokenized)

    def has_work(self, call: Call) -> bool:
        """Whether any text of a call waits to be tokenized or run."""
        return self._turns.has_work(call)

    def is_alone(self, batch: Batch) -> bool:
        """Whether nothing else waits, and the batch completes all of its calls."""
        if self._groups or self._untokenized:
            return False
        calls = {call for job in batch.jobs for call, _ in job.rows}
        return sum(call.left for call in calls) == sum(len(job.rows) for job in batch.jobs)

    def waiting_texts(self) -> int:
        """Return the number of texts that wait, whether tokenized or not."""
        return sum(len(call.texts) - call.tokenized + call.waiting_texts for call in self._turns)

    def expected_tokens(self, texts: Iterable[Text]) -> int:
        """Estimate the token count of texts before they are tokenized."""
        most = self._max_tokens
        return sum(min(most, 1 + characters(text) // CHARACTERS_PER_TOKEN) for text in texts)

    def add(self, call: Call) -> None:
        """Add a call. A call without texts finishes immediately."""
        if not call.left:
            call.finish()
            return
        is_behind = self._turns.add(call)
        self._untokenized[call] = None
        self.coalesced += len(call.copies)
        call.expected = self.expected_tokens(call.texts)
        if self._pauses and is_behind and call.expected <= SHORT_BATCH:
            self._urgent[call] = None
        self.untokenized_tokens += call.expected
        self._turns.schedule(call.share)

    def take(self, workers: int) -> Tokenize | Batch | None:
        """Return the next work for one of `workers` workers; None if there is none now."""
        if (call := self._next_to_tokenize()) is not None:
            return self._take_texts(call, workers)
        if (call := self._turns.next()) is None:
            return None
        if call in self._untokenized and call.waiting_texts < TEXTS_AHEAD:
            work: Tokenize | Batch = self._take_texts(call, workers)
        else:
            work = self._take_batch(call, workers)
        self._turns.schedule(call.share)
        return work

    @property
    def has_urgent_work(self) -> bool:
        """Whether texts wait that should interrupt a batch."""
        return any(map(self._turns.has_work, self._urgent))

    def take_urgent(self) -> Tokenize | Batch | None:
        """Return work for a pause of a batch; None if there is none."""
        call = next(filter(self._turns.has_work, self._urgent), None)
        if call is None:
            return None
        work = self._take_texts(call, 1) if call in self._untokenized else self._take_batch(call)
        self._turns.schedule(call.share)
        return work

    def put(self, call: Call, part: range, ids: Sequence[TokenIds]) -> None:
        """Queue the token ids of texts that `take` returned for tokenization."""
        if call not in self._turns:  # cancelled in the meantime
            return
        self._count_tokenized(call, part)
        if call in self._urgent and count_tokens(ids) > SHORT_BATCH:
            del self._urgent[call]  # it has more tokens than expected
        for row, text_ids in zip(call.rows[part.start : part.stop], ids, strict=True):
            self._put_row(call, row, text_ids)
        self._turns.schedule(call.share)

    def finish(self, batch: Batch, results: Results) -> None:
        """Store the results of a batch, a row each, in its calls."""
        for job, vector in zip(batch.jobs, results, strict=True):
            self._remove_running(job)
            for call, row in job.rows:
                self._set_vector(call, row, vector)
                if call.cache is not None:
                    call.cache.put(job.key, vector)
            if self._cache is not None:
                self._cache.put(job.key, vector)

    def put_vectors(self, call: Call, part: range, ran: Ran) -> None:
        """Store the vectors of texts that ran as soon as they were tokenized."""
        self.batches += ran.batches
        if call not in self._turns:  # cancelled in the meantime
            return
        self._count_tokenized(call, part)
        texts = call.rows[part.start : part.stop]
        rows = slice(texts.start, texts.stop) if isinstance(texts, range) else texts
        call.token_counts[rows] = ran.token_counts
        call.vectors[rows] = ran.vectors
        call.left -= len(part)
        call.share.served += ran.tokens
        self._close_if_done(call)
        self._turns.schedule(call.share)

    def requeue(self, work: Tokenize | Batch) -> None:
        """Queue unfinished work again."""
        if isinstance(work, Tokenize):
            for call, part in work.slices:
                if call in self._turns:
                    call.untokenized.append(part)
                    self._untokenized[call] = None
                    self._turns.schedule(call.share)
            return
        for job in work.jobs:
            if self._running.get(job.key) is not job:  # already finished
                continue
            if job.rows:
                del self._running[job.key]
                self._wait(job)
                for share in {call.share for call, _ in job.rows}:
                    self._turns.schedule(share)
            else:
                self._remove_running(job)

    def fail(self, work: Tokenize | Batch, error: BaseException) -> None:
        """End the calls that have texts in this work with an error."""
        if isinstance(work, Tokenize):
            for call, _ in work.slices:
                self.remove(call, error)
            return
        for job in work.jobs:
            self._remove_running(job)
            for call, _ in job.rows:
                self.remove(call, error)

    def remove(self, call: Call, error: BaseException) -> None:
        """End a call with an error. Drop its waiting texts unless another call needs them."""
        if call not in self._turns:
            return
        for jobs in list(call.waiting.values()):
            for job in list(jobs.values()):
                job.rows = [(other, row) for other, row in job.rows if other is not call]
                if not job.rows:
                    _remove(self._groups, job)
                    self.waiting_tokens -= job.tokens
                    del self._jobs[job.key]
        call.waiting.clear()
        call.waiting_texts = 0
        for job in self._running.values():
            job.rows = [(other, row) for other, row in job.rows if other is not call]
        self._drop(call)
        call.finish(error)

    def _next_to_tokenize(self) -> Call | None:
        """Return a call of a few texts that are to be tokenized before the next batch is filled."""
        few = (call for call in self._untokenized if len(call.texts) <= TEXTS_AT_ONCE)
        return None if self._runs_at_once or len(self._jobs) >= TEXTS_AHEAD else next(few, None)

    def _take_texts(self, call: Call, workers: int) -> Tokenize:
        room = TEXTS_AT_ONCE
        if self._runs_at_once:
            room = texts_at_once(call, self.untokenized_tokens // workers)
        slices: list[tuple[Call, range]] = []
        for other in chain([call], self._untokenized):
            if other is call and slices:
                continue
            if other is call or sum(map(len, other.untokenized)) <= room:
                slices.append((other, other.take_texts(room)))
                room -= len(slices[-1][1])
            if not room:
                break
        for other, _ in slices:
            if not (self._runs_at_once and other.untokenized):
                del self._untokenized[other]
        return Tokenize(tuple(slices))

    def _count_tokenized(self, call: Call, part: range) -> None:
        call.tokenized += len(part)
        expected = call.expected
        if call.tokenized < len(call.texts):
            if call.untokenized:
                self._untokenized[call] = None
            expected = self.expected_tokens(call.texts[part.start : part.stop])
        call.expected -= expected
        self.untokenized_tokens -= expected

    def _take_batch(self, call: Call, workers: int | None = None) -> Batch:
        """Take a batch for one of `workers` workers, or for a pause."""
        cannot_pause = self._turns.are_shared and not self._pauses
        group = self._choose_group(call, workers if cannot_pause else None)
        budget = SHORT_BATCH if cannot_pause or workers is None else TOKENS_PER_BATCH
        if workers is not None:
            budget = min(budget, max(self._fewest_tokens, self.waiting_tokens // workers))
        if self._mixes:
            jobs = fill_mixed(call, group, budget, self._turns)
        else:
            jobs = fill_equal(call, group, budget, self._groups[group])
        for job in jobs:
            self._stop_waiting(job)
            self._running[job.key] = job
            for waiting, _ in job.rows:
                waiting.share.served += job.tokens
        for share in {waiting.share for job in jobs for waiting, _ in job.rows} - {call.share}:
            self._turns.schedule(share)
        self.batches += 1
        return Batch(tuple(jobs))

    def _choose_group(self, call: Call, workers: int | None) -> Group:
        """Return the call's longest texts, so that its workers end together.

        Of several `workers`, one does not take longer texts than a short batch has.
        """
        groups = list(call.waiting)
        if workers is not None and workers > 1:
            long = sum(job.tokens > SHORT_BATCH for job in self._running.values())
            if long >= workers - 1:
                groups = [group for group in groups if group[0] <= SHORT_BATCH] or groups
        return max(groups, key=itemgetter(0))

    def _put_row(self, call: Call, row: int, ids: TokenIds) -> None:
        tokens = call.token_counts[row] = ids.shape[-1]
        if not ids.size:  # an empty text, and a tokenizer without special tokens
            self._set_vector(call, row, call.empty)
            return
        key = ids.tobytes()
        for cache in (call.cache, self._cache):
            vector = cache.get(key) if cache is not None else None
            if vector is not None:
                self.cache_hits += 1
                self._set_vector(call, row, vector)
                return
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = Job(ids, key, (tokens, call.batch_size), [(call, row)])
            self._wait(job)
            return
        self.coalesced += 1
        job.rows.append((call, row))
        if key in self._groups.get(job.group, ()) and key not in call.waiting.get(job.group, ()):
            call.waiting.setdefault(job.group, {})[key] = job
            call.waiting_texts += 1

    def _wait(self, job: Job) -> None:
        self._groups.setdefault(job.group, {})[job.key] = job
        self.waiting_tokens += job.tokens
        for call in {call for call, _ in job.rows}:
            call.waiting.setdefault(job.group, {})[job.key] = job
            call.waiting_texts += 1

    def _stop_waiting(self, job: Job) -> None:
        _remove(self._groups, job)
        self.waiting_tokens -= job.tokens
        for call in {call for call, _ in job.rows}:
            _remove(call.waiting, job)
            call.waiting_texts -= 1

    def _set_vector(self, call: Call, row: int, vector: Row | float) -> None:
        call.vectors[row] = vector
        call.left -= 1
        self._close_if_done(call)

    def _close_if_done(self, call: Call) -> None:
        if not call.left and call in self._turns:
            self._drop(call)
            call.finish()

    def _remove_running(self, job: Job) -> None:
        if self._running.get(job.key) is job:
            del self._jobs[job.key], self._running[job.key]

    def _drop(self, call: Call) -> None:
        self._turns.remove(call)
        self._untokenized.pop(call, None)
        self._urgent.pop(call, None)
        self.untokenized_tokens -= call.expected


def _remove(groups: dict[Group, dict[bytes, Job]], job: Job) -> None:
    jobs = groups[job.group]
    del jobs[job.key]
    if not jobs:
        del groups[job.group]
