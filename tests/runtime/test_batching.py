"""Tests of the queue with random schedules: which texts run next, and in which batches."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedrt.engine.batching import TEXTS_AHEAD, TEXTS_AT_ONCE, Queue
from embedrt.engine.cache import VectorCache
from embedrt.engine.call import Call, Share, TokenIds
from embedrt.engine.filling import (
    FEWEST_MIXED_TOKENS,
    FEWEST_TOKENS,
    SHORT_BATCH,
    TOKENS_PER_BATCH,
)
from embedrt.engine.turns import OLDEST_EVERY, TURNS_SHARED
from embedrt.engine.work import Batch, Tokenize

MAX_TOKENS = 64


def ids_of(text: str) -> TokenIds:
    """Return the token ids of ``word*count``. Spaces around it make a text with the same ids."""
    word, _, count = text.strip().partition("*")
    return np.full(int(count), int(word), np.int64)


def vector_of(ids: TokenIds) -> list[float]:
    """Return the model's vector for token ids: zeros if there are none."""
    return [float(ids[0]), float(len(ids))] if ids.size else [0.0, 0.0]


@pytest.fixture(params=[False, True], ids=["equal", "mixed"])
def mixes(request: pytest.FixtureRequest) -> bool:
    """Whether texts of different token counts share a batch."""
    value: bool = request.param
    return value


@pytest.fixture
def queue(mixes: bool) -> Queue:
    return Queue(max_tokens=MAX_TOKENS, mixes=mixes)


def call_of(texts: list[str], batch_size: int | None = None, share: Share | None = None) -> Call:
    """Return a call whose vectors are NaN until they are computed."""
    return Call(
        texts=texts,
        vectors=np.full((len(texts), 2), np.nan, np.float32),
        batch_size=batch_size,
        share=share or Share(),
    )


def tokenize(queue: Queue, work: Tokenize) -> None:
    """Tokenize texts as a worker does."""
    for call, part in work.slices:
        texts = call.texts[part.start : part.stop]
        queue.put(call, part, [ids_of(str(text)) for text in texts])


def run(queue: Queue, batch: Batch) -> None:
    """Run a batch as a worker does."""
    vectors = [vector_of(row) for row in batch.texts]
    queue.finish(batch, np.array(vectors, np.float32))


def drain(queue: Queue, workers: int = 1) -> Iterator[Batch]:
    """Process the queue with a single worker, yielding each batch before it runs."""
    while (work := queue.take(workers)) is not None:
        if isinstance(work, Tokenize):
            tokenize(queue, work)
        else:
            yield work
            run(queue, work)


def check_vectors(call: Call, given: list[str]) -> None:
    assert call.done.is_set()
    assert call.error is None
    assert call.vectors.tolist() == [vector_of(ids_of(text)) for text in given]


class Driver:
    """Callers and workers that take random steps."""

    def __init__(self, seed: int, *, mixes: bool) -> None:
        self.chance = random.Random(seed)
        self.mixes = mixes
        self.workers = self.chance.randint(1, 4)
        cache = VectorCache(self.chance.choice([2_000, 100_000])) if seed % 3 == 0 else None
        pauses = self.chance.random() < 0.2
        self.queue = Queue(max_tokens=MAX_TOKENS, cache=cache, mixes=mixes, pauses=pauses)
        self.work: list[Tokenize | Batch] = []
        self.calls: list[tuple[Call, list[str]]] = []
        self.ended: set[Call] = set()
        self.shares = [Share()]
        self.ran: list[bytes] = []
        self.lengths = [self.chance.randint(0, 40) for _ in range(self.chance.randint(1, 5))]
        if pauses:
            self.begin_corpus()

    def begin_corpus(self) -> None:
        """Let one call run for long, so that small calls beside it are urgent."""
        texts = [f"{number}*40" for number in range(300)]
        self.calls.append((call_of(texts), texts))
        self.queue.add(self.calls[0][0])
        for _ in range(60):
            self.take()
            self.do()

    def texts(self) -> list[str]:
        words = self.chance.choice([3, 1000])
        return [
            f"{self.chance.randrange(words)}*{self.chance.choice(self.lengths)}"
            + " " * self.chance.randrange(2)
            for _ in range(self.chance.choice([0, 1, 1, 1, 2, 5, 40, 300]))
        ]

    def call(self) -> None:
        texts = self.texts()
        share = self.chance.choice([None, *self.shares])
        call = call_of(texts, self.chance.choice([None, None, None, 1, 3]), share)
        self.calls.append((call, texts))
        self.queue.add(call)

    def take(self) -> None:
        if len(self.work) == self.workers:
            return
        work = self.queue.take(self.workers)
        if isinstance(work, Batch):
            self.check_batch(work)
        if work is not None:
            self.work.append(work)

    def interrupt(self) -> None:
        """Take work in a pause of a batch that runs."""
        if not any(isinstance(work, Batch) for work in self.work):
            return
        is_urgent = self.queue.has_urgent_work
        work = self.queue.take_urgent()
        assert is_urgent == (work is not None)
        if isinstance(work, Batch):
            self.check_batch(work)
            assert sum(map(len, work.texts)) <= SHORT_BATCH
        if work is not None:
            self.work.append(work)

    def check_batch(self, batch: Batch) -> None:
        lengths = [len(job.ids) for job in batch.jobs]
        assert self.mixes or len(set(lengths)) == 1
        assert len(batch.jobs) == 1 or sum(lengths) <= TOKENS_PER_BATCH
        sizes = {job.group[1] for job in batch.jobs}
        assert len(sizes) == 1
        assert len(batch.jobs) <= (sizes.pop() or len(batch.jobs))
        running = {job.key for work in self.work if isinstance(work, Batch) for job in work.jobs}
        keys = {job.key for job in batch.jobs}
        assert len(keys) == len(batch.jobs)
        assert not keys & running
        self.ran += keys

    def do(self) -> None:
        if not self.work:
            return
        work = self.work.pop(self.chance.randrange(len(self.work)))
        how = self.chance.random()
        if how < 0.05:
            self.queue.requeue(work)
        elif how < 0.07:
            touched = (
                {call for call, _ in work.slices}
                if isinstance(work, Tokenize)
                else {call for job in work.jobs for call, _ in job.rows}
            )
            self.queue.fail(work, ArithmeticError("failed"))
            self.ended |= touched
        elif isinstance(work, Tokenize):
            tokenize(self.queue, work)
        else:
            run(self.queue, work)

    def cancel(self) -> None:
        if self.calls:
            call, _ = self.chance.choice(self.calls)
            if not call.done.is_set():
                self.queue.remove(call, InterruptedError())
                self.ended.add(call)

    def check_counts(self) -> None:
        waiting = {
            job.key: len(job.ids)
            for call in self.queue.calls()
            for jobs in call.waiting.values()
            for job in jobs.values()
        }
        assert self.queue.waiting_tokens == sum(waiting.values())
        for call in self.queue.calls():
            assert call.waiting_texts == sum(map(len, call.waiting.values()))
            assert call.left > 0
        if not self.queue.calls():
            assert self.queue.untokenized_tokens == self.queue.waiting_texts() == 0

    def finish(self) -> None:
        while self.work or self.queue.useful_workers():
            self.take()
            self.do()
        assert self.queue.take(self.workers) is None
        assert self.queue.calls() == []
        self.check_counts()
        for call, texts in self.calls:
            if call in self.ended and call.error is not None:
                continue
            check_vectors(call, texts)


@pytest.mark.parametrize("start", range(0, 3000, 500))
def test_thousands_of_schedules(start: int, mixes: bool) -> None:
    """No text is lost, none runs twice at once, and every vector is at its text's index."""
    for seed in range(start, start + 500):
        driver = Driver(seed, mixes=mixes)
        steps = [
            *[driver.call, driver.take, driver.take, driver.do, driver.do],
            *[driver.cancel, driver.interrupt],
        ]
        for _ in range(driver.chance.randint(1, 60)):
            driver.chance.choices(steps, [2, 4, 4, 4, 4, 0.3, 2])[0]()
        driver.check_counts()
        driver.finish()


@given(st.lists(st.integers(1, 40), max_size=60), st.none() | st.integers(1, 10))
def test_batches_of_one_call_match_a_simple_plan(lengths: list[int], texts: int | None) -> None:
    """Texts are grouped by length, longest first, and each group split within both budgets."""
    queue = Queue(max_tokens=MAX_TOKENS)
    given = [f"{number}*{length}" for number, length in enumerate(lengths)]
    call = call_of(given, texts)
    queue.add(call)
    batches = list(drain(queue))
    check_vectors(call, given)
    plain: list[int] = []
    left = sum(lengths)
    for length in sorted(set(lengths), reverse=True):
        count = lengths.count(length)
        while count:
            budget = min(TOKENS_PER_BATCH, max(FEWEST_TOKENS, left))
            size = min(count, max(1, budget // length), texts or count)
            plain.append(size)
            count -= size
            left -= size * length
    assert [len(batch.jobs) for batch in batches] == plain


@given(st.lists(st.integers(1, 2 * TOKENS_PER_BATCH), max_size=60), st.none() | st.integers(1, 10))
def test_mixed_batches_of_one_call_match_a_simple_plan(
    lengths: list[int], texts: int | None
) -> None:
    """Of the texts that wait, longest first, a batch takes each that still fits in its budgets."""
    queue = Queue(max_tokens=2 * TOKENS_PER_BATCH, mixes=True)
    given = [f"{number}*{length}" for number, length in enumerate(lengths)]
    call = call_of(given, texts)
    queue.add(call)
    batches = list(drain(queue))
    check_vectors(call, given)
    plain: list[list[int]] = []
    waiting = sorted(lengths, reverse=True)
    while waiting:
        budget = min(TOKENS_PER_BATCH, max(FEWEST_MIXED_TOKENS, sum(waiting)))
        taken = [waiting.pop(0)]
        for length in list(waiting):
            if sum(taken) + length <= budget and len(taken) < (texts or len(lengths)):
                waiting.remove(length)
                taken.append(length)
        plain.append(taken)
    assert [list(map(len, batch.texts)) for batch in batches] == plain


@given(
    st.lists(st.lists(st.integers(1, 150), min_size=1, max_size=3), min_size=1, max_size=40),
    st.integers(1, 3),
)
def test_mixed_batches_of_many_calls(calls: list[list[int]], workers: int) -> None:
    """While a text waits that would fit, a batch is at least half full."""
    queue = Queue(max_tokens=MAX_TOKENS, mixes=True)
    given = [
        [f"{number}*{length}" for number, length in enumerate(lengths, start=4 * place)]
        for place, lengths in enumerate(calls)
    ]
    added = [call_of(texts) for texts in given]
    for call in added:
        queue.add(call)
    while (work := queue.take(workers)) is not None:
        if isinstance(work, Tokenize):
            tokenize(queue, work)
            continue
        used = sum(map(len, work.texts))
        waiting = [jobs for call in queue.calls() for jobs in call.waiting.values()]
        left = [job.tokens for jobs in waiting for job in jobs.values()]
        budget = min(TOKENS_PER_BATCH, max(FEWEST_MIXED_TOKENS, (used + sum(left)) // workers))
        assert len(work.texts) == 1 or used <= budget
        assert 2 * used >= budget or all(used + length > budget for length in left)
        run(queue, work)
    for call, texts in zip(added, given, strict=True):
        check_vectors(call, texts)


def test_mixed_texts_of_other_callers_fill_a_batch() -> None:
    """Only callers of the same batch size share a batch."""
    queue = Queue(max_tokens=MAX_TOKENS, mixes=True)
    calls = [call_of([f"{number}*{1 + number}"]) for number in range(12)]
    limited = [call_of([f"{number}*{1 + number}"], 2) for number in range(20, 25)]
    for call in (*calls, *limited):
        queue.add(call)
    assert [len(batch.jobs) for batch in drain(queue)] == [12, 2, 2, 1]


@pytest.mark.parametrize(("mixes", "workers"), [(False, 9), (True, 1)], ids=["equal", "mixed"])
def test_work_for_other_workers(workers: int, queue: Queue) -> None:
    """Each token count is a batch where they do not mix; otherwise a batch is enough for few."""
    queue.add(call_of([f"1*{length}" for length in range(1, 10)]))
    assert queue.useful_workers() == 1  # to tokenize them
    work = queue.take(4)
    assert isinstance(work, Tokenize)
    tokenize(queue, work)
    assert queue.useful_workers() == workers
    assert sum(1 for _ in drain(queue, 4)) == workers
    assert queue.useful_workers() == 0


def test_a_long_text_does_not_starve_beside_short_ones() -> None:
    """It waits for those that came before it, and not for later ones that fill every batch."""
    queue = Queue(max_tokens=MAX_TOKENS, mixes=True)
    for number in range(200):
        queue.add(call_of([f"{number}*9"]))
    long = call_of([f"1*{TOKENS_PER_BATCH}"])
    queue.add(long)
    turns = 0
    for turns, _ in enumerate(drain(queue)):
        if long.done.is_set():
            break
        for number in range(40):
            queue.add(call_of([f"{1000 + 40 * turns + number}*9"]))
    assert long.done.is_set()
    assert turns <= 2 * (1 + 200 // TEXTS_AT_ONCE)  # two batches for the texts tokenized at once


def test_texts_of_equal_length_keep_their_order(queue: Queue) -> None:
    queue.add(call_of([f"{number}*3" for number in range(20)]))
    (batch,) = drain(queue)
    assert [int(ids[0]) for ids in batch.texts] == list(range(20))


@pytest.mark.parametrize("length", [1, 16, TOKENS_PER_BATCH, 3 * TOKENS_PER_BATCH])
def test_the_token_budget_is_used(length: int, queue: Queue) -> None:
    queue.add(call_of([f"{number}*{length}" for number in range(600)]))
    sizes = [len(batch.jobs) for batch in drain(queue)]
    assert set(sizes[:-2]) == {max(1, TOKENS_PER_BATCH // length)}


def test_batches_leave_work_for_the_other_workers(queue: Queue, mixes: bool) -> None:
    """Down to what is worth a batch, which is less where token counts mix."""
    queue.add(call_of([f"{number}*16" for number in range(16)]))
    sizes = [len(batch.jobs) for batch in drain(queue, workers=2)]
    assert sizes == ([8, 4, 4] if mixes else [8, 8])


def test_texts_of_other_callers_fill_a_batch(queue: Queue) -> None:
    calls = [call_of([f"{number}*7"]) for number in range(12)]
    for call in calls:
        queue.add(call)
    (batch,) = drain(queue)
    assert len(batch.jobs) == 12
    assert all(call.done.is_set() for call in calls)


def test_a_batch_is_filled_from_all_small_calls_that_wait(queue: Queue) -> None:
    """Also from those that arrived after others had been tokenized."""
    queue.add(call_of(["0*7"]))
    work = queue.take(1)
    assert isinstance(work, Tokenize)
    tokenize(queue, work)
    for number in range(1, 2 * TEXTS_AT_ONCE):
        queue.add(call_of([f"{number}*7"]))
    assert len(next(drain(queue)).jobs) == TOKENS_PER_BATCH // 7


def test_a_tokenized_text_does_not_wait_for_the_tokenization_of_a_corpus(queue: Queue) -> None:
    lone = call_of(["7*11"])
    queue.add(lone)
    work = queue.take(1)
    assert isinstance(work, Tokenize)
    tokenize(queue, work)
    queue.add(call_of([f"{number}*11" for number in range(1000)]))
    work = queue.take(1)
    assert isinstance(work, Batch)
    assert [call for call, _ in work.jobs[0].rows] == [lone]


def test_tokenization_of_small_calls_does_not_keep_a_batch_waiting(queue: Queue) -> None:
    """However many arrive, some run once enough are tokenized."""
    slices = 0
    for start in count(step=TEXTS_AT_ONCE):
        for number in range(start, start + TEXTS_AT_ONCE):
            queue.add(call_of([f"{number}*7"]))
        if isinstance(work := queue.take(1), Batch):
            break
        assert work is not None
        tokenize(queue, work)
        slices += 1
    assert slices == TEXTS_AHEAD // TEXTS_AT_ONCE


def test_a_text_never_waits_behind_a_corpus(queue: Queue) -> None:
    corpus = call_of([f"{number}*{1 + number % 40}" for number in range(20_000)])
    queue.add(corpus)
    batches = drain(queue)
    for _ in range(50):
        next(batches)
    lone = call_of(["7*11"])
    queue.add(lone)
    batch = next(batches)
    assert [call for job in batch.jobs for call, _ in job.rows] == [lone]


def test_tokenization_of_a_corpus_does_not_keep_a_text_waiting(queue: Queue) -> None:
    corpus = call_of([f"{number}*40" for number in range(20_000)])
    queue.add(corpus)
    for number, _ in enumerate(drain(queue)):
        if number == 50:
            break
    while not isinstance(work := queue.take(1), Tokenize):
        assert work is not None
        run(queue, work)
    tokenize(queue, work)
    lone = call_of(["7*11"])
    queue.add(lone)
    work = queue.take(1)
    assert isinstance(work, Tokenize)
    assert work.slices[0] == (lone, range(1))


def test_a_corpus_leaves_one_worker_to_short_batches_while_texts_arrive(
    queue: Queue, mixes: bool
) -> None:
    corpus = call_of([f"{number}*{8 if number % 2 else 200}" for number in range(20_000)])
    queue.add(corpus)
    taken: list[Batch] = []

    def sizes(turns: int) -> set[tuple[int, int]]:
        """Run two workers; return the token counts of batches that run at the same time."""
        found = set[tuple[int, int]]()
        for _ in range(turns):
            work = queue.take(2)
            assert work is not None
            if isinstance(work, Tokenize):
                tokenize(queue, work)
                continue
            taken.append(work)
            if len(taken) == 2:
                shorter, longer = sorted(sum(map(len, batch.texts)) for batch in taken)
                found.add((shorter, longer))
                run(queue, taken.pop(0))
        return found

    full = TOKENS_PER_BATCH if mixes else 200
    assert (full, full) in sizes(200)
    queue.add(call_of(["7*11"]))
    sizes(4)  # ends the batches that ran when the text arrived
    assert max(shorter for shorter, _ in sizes(TURNS_SHARED - 5)) <= SHORT_BATCH


@pytest.fixture
def behind() -> Queue:
    """A queue whose batches can pause, with a corpus that has run for long."""
    queue = Queue(max_tokens=MAX_TOKENS, mixes=True, pauses=True)
    queue.add(call_of([f"{number}*40" for number in range(20_000)]))
    for number, _ in enumerate(drain(queue)):
        if number == 50:
            break
    assert not queue.has_urgent_work
    return queue


def test_a_small_call_beside_a_corpus_is_urgent(behind: Queue) -> None:
    small = call_of(["7*11", "8*12"])
    behind.add(small)
    assert behind.has_urgent_work
    texts = behind.take_urgent()
    assert isinstance(texts, Tokenize)
    assert [call for call, _ in texts.slices] == [small]
    tokenize(behind, texts)
    batch = behind.take_urgent()
    assert isinstance(batch, Batch)
    assert {call for job in batch.jobs for call, _ in job.rows} == {small}
    assert behind.take_urgent() is None
    run(behind, batch)
    check_vectors(small, ["7*11", "8*12"])


def test_a_large_call_is_not_urgent(behind: Queue) -> None:
    behind.add(call_of([f"{number}*1" for number in range(SHORT_BATCH)]))
    assert not behind.has_urgent_work
    assert behind.take_urgent() is None


def test_a_call_of_more_tokens_than_expected_is_not_urgent(behind: Queue) -> None:
    call = call_of([f"7*{SHORT_BATCH + 1}"])
    behind.add(call)
    work = behind.take_urgent()
    assert isinstance(work, Tokenize)
    tokenize(behind, work)
    assert behind.take_urgent() is None
    for _ in drain(behind):
        if call.done.is_set():
            break
    check_vectors(call, [f"7*{SHORT_BATCH + 1}"])


def test_a_cancelled_call_is_not_urgent(behind: Queue) -> None:
    small = call_of(["7*11"])
    behind.add(small)
    behind.remove(small, InterruptedError())
    assert behind.take_urgent() is None


def test_batches_that_can_pause_stay_full_while_texts_arrive(behind: Queue) -> None:
    sizes = []
    for number in range(20):
        behind.add(call_of([f"7*{1 + number}"]))
        while (work := behind.take(2)) is not None:
            if isinstance(work, Tokenize):
                tokenize(behind, work)
                continue
            run(behind, work)
            if 40 in map(len, work.texts):  # of the corpus
                sizes.append(sum(map(len, work.texts)))
                break
    assert min(sizes) > TOKENS_PER_BATCH - 40


def test_a_corpus_progresses_while_texts_keep_arriving(queue: Queue) -> None:
    """Its batches run at regular intervals, whatever arrives after it."""
    corpus = call_of([f"{number}*40" for number in range(200)])
    queue.add(corpus)
    runs = 0
    for number, batch in enumerate(drain(queue)):
        runs += any(call is corpus for job in batch.jobs for call, _ in job.rows)
        if number == 100:
            break
        for word in range(3):
            queue.add(call_of([f"{1000 + 3 * number + word}*{1 + word}"]))
    assert runs >= 100 // OLDEST_EVERY


def test_a_new_call_gets_the_same_share_as_an_old_one(queue: Queue) -> None:
    old = call_of([f"{number}*32" for number in range(9000)])
    queue.add(old)
    new = call_of([f"{number}*33" for number in range(9000)])
    turns = []
    for number, batch in enumerate(drain(queue)):
        if number == 300:
            queue.add(new)
        turns.append(any(call is new for job in batch.jobs for call, _ in job.rows))
        if number == 600:
            break
    assert not any(turns[:301])
    assert 0.4 < np.mean(turns[400:]) < 0.6


def test_calls_of_one_share_are_served_in_order(queue: Queue) -> None:
    share = Share()
    first = call_of([f"{number}*40" for number in range(100)], share=share)
    second = call_of([f"{number}*39" for number in range(100)], share=share)
    for call in (first, second):
        queue.add(call)
    done = [(first.done.is_set(), second.done.is_set()) for _ in drain(queue)]
    assert (False, True) not in done


def test_a_limited_number_of_tokens_is_queued_ahead(queue: Queue) -> None:
    call = call_of([f"{number}*{1 + number % 30}" for number in range(10 * TEXTS_AHEAD)])
    queue.add(call)
    most = max(call.waiting_texts for _ in drain(queue))
    assert TEXTS_AHEAD - TOKENS_PER_BATCH < most <= TEXTS_AHEAD + TEXTS_AT_ONCE


def test_the_cache_returns_computed_vectors() -> None:
    queue = Queue(max_tokens=MAX_TOKENS, cache=VectorCache(10_000))
    first, again = call_of(["5*3", "6*2"]), call_of(["5*3 ", "7*2"])
    queue.add(first)
    assert sum(len(batch.jobs) for batch in drain(queue)) == 2
    queue.add(again)
    assert sum(len(batch.jobs) for batch in drain(queue)) == 1
    assert queue.cache_hits == 1
    assert again.vectors.tolist() == [[5, 3], [7, 2]]


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(0, 5000))
def test_the_cache_keeps_the_most_recently_used(keys: list[int], size: int) -> None:
    """The cache agrees with a plain list of the keys in order of use."""
    cache, used = VectorCache(size), list[int]()
    entry = 8 + 8 + 300
    for key in keys:
        name = key.to_bytes(8, "little")
        found = cache.get(name)
        assert (found is not None) == (key in used)
        assert found is None or found.tolist() == [key, key]
        cache.put(name, np.array([key, key], np.float32))
        used = [*(other for other in used if other != key), key]
        used = used[max(0, len(used) - size // entry) :]
    assert len(cache) == len(used)


def test_the_cache_copies_its_callers_array() -> None:
    cache = VectorCache(10_000)
    vector = np.array([1.0, 2.0], np.float32)
    cache.put(b"key", vector)
    vector[:] = 9
    found = cache.get(b"key")
    assert found is not None
    assert found.tolist() == [1.0, 2.0]
