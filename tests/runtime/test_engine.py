"""Tests of the engine: sessions, worker threads, concurrent calls."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedrt.engine.sessions
from embedrt import Embedder
from embedrt.bundle.reader import GRAPH
from embedrt.bundle.weights import WEIGHTS
from embedrt.engine.batching import Queue
from embedrt.engine.call import Call, TokenIds
from embedrt.engine.filling import SHORT_BATCH, TOKENS_PER_BATCH
from embedrt.engine.huge_pages import Regions
from embedrt.engine.runner import Pauses, Runner, TextIds
from embedrt.engine.scheduler import Engine
from embedrt.engine.session import FloatArray, Session
from embedrt.engine.sessions import ALONE_BEFORE_ALL_CORES, LONG_BATCH, Sessions
from embedrt.errors import BundleCorruptError, ClosedError, EmbedrtError, OverloadedError
from embedrt.kernels.session import KernelSession
from embedrt.request import STREAM_BLOCK
from tiny_bundle import WORDS, make_tiny
from waiting import SECONDS, wait_until

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
IDS = np.array([[1, 2]])
VECTOR = np.array([[0, 1, 1] + [0] * (WORDS - 3)], np.float32)

CLOSED = "^this Embedder has been closed; load the bundle again$"


def tokenize(texts: Sequence[str]) -> list[TokenIds]:
    """Parse the numbers in each text as its token ids."""
    return [np.array(text.split(), np.int64) for text in texts]


def call_of(*texts: str) -> Call:
    """Return a call with a new array for its vectors."""
    return Call(texts=texts, vectors=np.full((len(texts), WORDS), np.nan, np.float32))


@pytest.fixture
def engine(tiny: Path) -> Iterator[Engine]:
    """An engine with the tiny bundle's graph and two threads."""
    engine = Engine(tiny / GRAPH, "fp32", 2, tokenize, max_tokens=8)
    yield engine
    engine.close()


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Runner]:
    """The sessions of the runs, in order."""
    sessions: list[Runner] = []

    def record(kind: type[Session | KernelSession]) -> None:
        run: Callable[..., FloatArray] = kind.run

        def recording(session: Runner, texts: TextIds, *pauses: Pauses) -> FloatArray:
            sessions.append(session)
            return run(session, texts, *pauses)

        monkeypatch.setattr(kind, "run", recording)

    record(Session)
    record(KernelSession)
    return sessions


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Runs of texts with token 9 block until the test releases them."""
    held = Held()
    run = Session.run

    def waiting(session: Session, texts: TextIds) -> FloatArray:
        if any((ids == 9).any() for ids in texts):
            held.running.set()
            assert held.go_on.wait(SECONDS)
        return run(session, texts)

    monkeypatch.setattr(Session, "run", waiting)
    return held


class Held:
    """Events of a run that is blocked."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.go_on = threading.Event()


def run_one(engine: Engine, text: str = "1 2") -> NDArray[np.float32]:
    """Embed one text in a call of its own."""
    call = Call(texts=[text], vectors=np.empty((1, engine.dimension or WORDS), np.float32))
    engine.run(call)
    return call.vectors


def wait_until_idle(engine: Engine) -> None:
    """Wait until no core is in use: a worker releases its own after its last call is done."""
    wait_until(lambda: engine._busy == 0)


def wait_until_all_run(engine: Engine) -> None:
    """Wait until no text is queued."""
    wait_until(lambda: engine.stats().waiting_texts == 0)


def use_all_cores(engine: Engine, calls: int = ALONE_BEFORE_ALL_CORES) -> Runner:
    """Make `calls` calls of one text; wait until the session for all cores is loaded."""
    wait_until_idle(engine)
    for _ in range(calls):
        run_one(engine)
    sessions = engine._sessions
    assert sessions.loading
    sessions.loading.result(timeout=SECONDS)
    assert sessions.all_cores
    return sessions.all_cores


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat calls as consecutive, however long the time between them."""
    monkeypatch.setattr(embedrt.engine.sessions, "SHORT_PAUSE", 3600.0)


class TestAllCores:
    def test_used_after_several_single_texts(self, engine: Engine, ran: list[Runner]) -> None:
        for _ in range(ALONE_BEFORE_ALL_CORES - 1):
            run_one(engine)
        assert engine._sessions.loading is None
        use_all_cores(engine, calls=1)
        assert set(ran) == {engine._sessions.one_core}
        assert (run_one(engine) == VECTOR).all()
        assert ran[-1] is engine._sessions.all_cores
        engine.run(call_of("1", "1 2", "1 2 3"))
        assert set(ran[-3:]) == {engine._sessions.one_core}

    def test_used_for_the_first_long_text(self, engine: Engine, ran: list[Runner]) -> None:
        text = "1 2 " * (LONG_BATCH // 2)
        engine.run(call_of("1 " * (LONG_BATCH - 1)))
        assert ran == [engine._sessions.one_core]
        call = call_of(text)
        engine.run(call)
        assert engine._sessions.all_cores is not None
        assert ran[1:] == [engine._sessions.all_cores]
        assert call.vectors.tobytes() == run_one(engine, text).tobytes()
        assert engine._busy == 0

    def test_a_long_text_runs_on_one_core_if_no_other_session_loads(
        self, engine: Engine, ran: list[Runner], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **_options: object) -> Session:
            raise MemoryError

        monkeypatch.setattr("embedrt.engine.session.Session", fail)
        for _ in range(2):
            engine.run(call_of("1 2 " * (LONG_BATCH // 2)))
        assert engine._sessions.all_cores is None
        assert ran == [engine._sessions.one_core] * 2

    def test_batches_do_not_count(self, engine: Engine) -> None:
        for _ in range(3 * ALONE_BEFORE_ALL_CORES):
            engine.run(call_of("1", "1 2"))
        assert engine._sessions.loading is None

    def test_never_with_one_thread(self, tiny: Path) -> None:
        with Embedder.load(tiny, threads=1) as embedder:
            for _ in range(3 * ALONE_BEFORE_ALL_CORES):
                embedder.encode("w1")
            assert embedder._engine._sessions.loading is None

    def test_a_text_alone_and_a_small_batch_are_alone(self, tiny_embedder: Embedder) -> None:
        for texts in ["w1", ["w1"], ["w1", "w2"], "w3"]:
            tiny_embedder.encode(texts)
        assert tiny_embedder._engine._sessions.loading

    def test_not_while_others_run(self, engine: Engine, ran: list[Runner], held: Held) -> None:
        all_cores = use_all_cores(engine)
        other = call_of("9", "1 1")  # two batches, one core each
        engine.start(other)
        assert held.running.wait(SECONDS)
        alone = call_of("1 2")
        engine.start(alone)
        engine.wait(alone)
        held.go_on.set()
        engine.wait(other)
        assert set(ran[ALONE_BEFORE_ALL_CORES:]) == {engine._sessions.one_core}
        wait_until_idle(engine)
        run_one(engine)
        assert ran[-1] is all_cores

    def test_others_wait_while_it_runs(self, engine: Engine, ran: list[Runner], held: Held) -> None:
        all_cores = use_all_cores(engine)
        ran.clear()
        alone = call_of("9")
        engine.start(alone)
        assert held.running.wait(SECONDS)
        other = call_of("1 2")
        engine.start(other)
        assert not other.done.wait(0.05)
        held.go_on.set()
        engine.wait(other)
        engine.wait(alone)
        assert ran[0] is all_cores

    def test_after_a_pause_only_for_a_long_run(
        self, engine: Engine, ran: list[Runner], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        all_cores = use_all_cores(engine)
        pace = engine._sessions._seconds_per_token
        assert 0 < pace < 1
        monkeypatch.setattr(embedrt.engine.sessions, "SHORT_PAUSE", 0.0)
        monkeypatch.setattr(embedrt.engine.sessions, "LONG_RUN", 2.5 * pace)
        run_one(engine)
        assert ran[-1] is engine._sessions.one_core
        monkeypatch.setattr(
            embedrt.engine.sessions, "LONG_RUN", 2.5 * engine._sessions._seconds_per_token
        )
        run_one(engine, "1 2 1 2")
        assert ran[-1] is all_cores

    def test_never_for_short_texts_with_pauses(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedrt.engine.sessions, "SHORT_PAUSE", 0.0)
        monkeypatch.setattr(embedrt.engine.sessions, "LONG_RUN", 3600.0)
        for _ in range(3 * ALONE_BEFORE_ALL_CORES):
            run_one(engine)
        assert engine._sessions.loading is None

    def test_a_failed_run_does_not_count_as_running(self, engine: Engine) -> None:
        for _ in range(5):
            with pytest.raises(BundleCorruptError, match="bounds"):
                run_one(engine, str(WORDS))
        assert engine._busy == 0

    @pytest.mark.parametrize("threads", [2, 3])
    def test_the_same_bytes(self, minilm: Path, threads: int) -> None:
        one = Session(minilm / GRAPH)
        all_cores = Session(minilm / GRAPH, threads=threads)
        generator = np.random.default_rng(5)
        for shape in [(1, 2), (1, 3), (1, 17), (1, 64), (1, 256), (2, 3), (7, 9), (33, 15)]:
            ids = generator.integers(1000, 20_000, shape)
            assert all_cores.run(ids).tobytes() == one.run(ids).tobytes()

    def test_from_a_relative_path_and_another_folder(
        self, tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tiny.parent)
        engine = Engine(Path(tiny.name) / GRAPH, "fp32", 2, tokenize, max_tokens=8)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        use_all_cores(engine)
        engine.close()

    @pytest.mark.parametrize("how", ["renamed", "overwritten", "removed"])
    def test_never_from_another_bundle_that_took_its_place(
        self, tiny: Path, tmp_path: Path, how: str
    ) -> None:
        other = make_tiny(tmp_path / "other", table=2 * np.eye(WORDS, dtype=np.float32))
        with Embedder.load(tiny, threads=2) as embedder:
            if how == "renamed":
                (other / GRAPH).rename(tiny / GRAPH)
            elif how == "overwritten":
                shutil.copyfile(other / GRAPH, tiny / GRAPH)
            else:
                shutil.rmtree(tiny)
            for _ in range(ALONE_BEFORE_ALL_CORES):
                assert embedder.encode("w1").max() == 1
            sessions = embedder._engine._sessions
            assert sessions.loading
            sessions.loading.exception(timeout=SECONDS)
            assert sessions.all_cores is None
            assert embedder.encode("w1").max() == 1

    @pytest.mark.parametrize("how", ["renamed", "overwritten", "touched", "removed"])
    def test_never_from_other_weights(self, tiny: Path, tmp_path: Path, how: str) -> None:
        """The graph is the same. A memory-mapped file remains readable after it is renamed."""
        other = make_tiny(tmp_path / "other", table=2 * np.eye(WORDS, dtype=np.float32))
        assert (other / GRAPH).read_bytes() == (tiny / GRAPH).read_bytes()
        with Embedder.load(tiny, threads=2) as embedder:
            if how == "renamed":
                (other / WEIGHTS).rename(tiny / WEIGHTS)
            elif how == "overwritten":
                shutil.copyfile(other / WEIGHTS, tiny / WEIGHTS)
            elif how == "touched":
                os.utime(tiny / WEIGHTS, (1, 1))
            else:
                (tiny / WEIGHTS).unlink()
            for _ in range(ALONE_BEFORE_ALL_CORES):
                assert embedder.encode("w1").max() == 1 or how == "overwritten"
            sessions = embedder._engine._sessions
            assert sessions.loading
            sessions.loading.exception(timeout=SECONDS)
            assert sessions.all_cores is None


class TestPrepareToFork:
    """What happens before a fork. Other tests fork real processes."""

    def test_waits_for_a_load(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded, begun = list[Session](), threading.Event()

        def slow(*arguments: Any, **options: Any) -> Session:
            begun.set()
            time.sleep(0.3)
            loaded.append(Session(*arguments, **options))
            return loaded[-1]

        monkeypatch.setattr("embedrt.engine.session.Session", slow)
        for _ in range(ALONE_BEFORE_ALL_CORES):
            run_one(engine)
        assert begun.wait(SECONDS)  # before that, the load is cancelled
        engine.prepare_to_fork()
        assert loaded
        assert engine._sessions.all_cores is None
        for _ in range(ALONE_BEFORE_ALL_CORES):
            run_one(engine)
        assert engine._sessions.loading is None  # its threads would not exist in the child
        engine.continue_after_fork()
        assert use_all_cores(engine, calls=1) is loaded[1]

    def test_does_not_wait_for_a_load_that_has_not_begun(self, tiny: Path) -> None:
        sessions = Sessions(tiny / GRAPH, "fp32", 2)
        loads: list[Callable[[], None]] = []

        def later(load: Callable[[], None]) -> Future[None]:
            loads.append(load)
            return Future()

        for _ in range(ALONE_BEFORE_ALL_CORES):
            sessions.choose(2, later)
        assert sessions.loading
        loading = sessions.loading
        sessions.prepare_to_fork()
        assert loading.cancelled()
        for _ in range(ALONE_BEFORE_ALL_CORES):
            sessions.choose(2, later)
        assert len(loads) == 2


class TestManyThreads:
    def test_sixty_four_threads(self, minilm: Path, ran: list[Runner]) -> None:
        """Threads embed one text, a few, or enough for all workers, at the same time."""
        texts = [f"{'word ' * (number % 9)}{number}" for number in range(64)]
        with Embedder.load(minilm, threads=2) as embedder:
            expected = [vector.tobytes() for vector in embedder.encode(texts)]
            counts = embedder.count_tokens(texts)
            all_cores = use_all_cores(embedder._engine)
            start = threading.Barrier(64)
            ran.clear()

            def work(number: int) -> bool:
                start.wait()
                some = slice(number % 8, number % 8 + 16)
                many = embedder.encode(texts[some] * 2 if number % 4 == 0 else [])
                few = embedder.encode(texts[number : number + 3])
                return (
                    embedder.encode(texts[number]).tobytes() == expected[number]
                    and [vector.tobytes() for vector in few] == expected[number : number + 3]
                    and [vector.tobytes() for vector in many] == (expected[some] * 2)[: len(many)]
                    and embedder.count_tokens(texts[number]) == counts[number]
                )

            with ThreadPoolExecutor(64) as pool:
                assert all(pool.map(work, range(64)))
            wait_until_idle(embedder._engine)
            embedder.encode(texts[0])
            assert set(ran) == {embedder._engine._sessions.one_core, all_cores}
            assert embedder._engine._busy == 0


class TestClose:
    def test_no_work_afterwards(self, engine: Engine) -> None:
        engine.close()
        engine.close()
        for work in (engine.run, engine.start):
            with pytest.raises(ClosedError, match=CLOSED):
                work(call_of("1 2"))

    def test_work_before_it_is_finished(self, engine: Engine, held: Held) -> None:
        running = call_of("9")
        engine.start(running)
        assert held.running.wait(SECONDS)
        queued = call_of(*(f"9 {number}" for number in range(8)))
        engine.start(queued)
        wait_until(lambda: bool(queued.waiting) or not engine.stats().waiting_texts)
        engine.close()
        held.go_on.set()
        engine.wait(running)
        engine.wait(queued)
        assert not np.isnan(running.vectors).any()
        assert not np.isnan(queued.vectors).any()

    def test_untokenized_work_fails(self, engine: Engine, held: Held) -> None:
        running = call_of("9", "9 9")
        engine.start(running)
        assert held.running.wait(SECONDS)
        queued = call_of(*(f"9 {number // 10} {number % 10}" for number in range(100)))
        wait_until_all_run(engine)
        engine.start(queued)
        engine.close()
        with pytest.raises(ClosedError, match=CLOSED):
            engine.wait(queued)
        held.go_on.set()
        engine.wait(running)

    @pytest.mark.parametrize("texts", ["w1", ["w1", "w2 w2"] * 20], ids=["one", "many"])
    def test_while_others_encode(self, tiny: Path, texts: str | list[str]) -> None:
        expected = 40 if isinstance(texts, list) else 1
        for attempt in range(20):
            embedder = Embedder.load(tiny, threads=2)
            encoding = threading.Barrier(5)

            def work(
                embedder: Embedder = embedder, encoding: threading.Barrier = encoding
            ) -> type[Exception] | None:
                encoding.wait()
                try:
                    while True:
                        assert (embedder.encode(texts) != 0).sum() == expected
                except ClosedError:
                    return ClosedError

            with ThreadPoolExecutor(4) as pool:
                outcomes = [pool.submit(work) for _ in range(4)]
                encoding.wait()
                time.sleep(attempt / 1000)
                embedder.close()
                assert [outcome.result(timeout=SECONDS) for outcome in outcomes] == [
                    ClosedError
                ] * 4

    @needs_proc
    @pytest.mark.parametrize("end", [Embedder.close, lambda _: None], ids=["closed", "dropped"])
    def test_fifty_embedders_leave_no_threads_or_files(
        self, tiny: Path, end: Callable[[Embedder], None]
    ) -> None:
        def use() -> None:
            embedder = Embedder.load(tiny, threads=2)
            embedder.encode(["w1", "w1 w2", "w1 w2 w3"])
            use_all_cores(embedder._engine)
            embedder.encode("w1")
            end(embedder)

        before, files = threads(), len(listed("fd"))
        for _ in range(50):
            use()
        gc.collect()
        wait_until(lambda: threads() <= before)
        wait_until(lambda: len(listed("fd")) <= files)

    @needs_proc
    def test_all_threads_end(self, engine: Engine) -> None:
        before = threads()
        use_all_cores(engine)
        assert len(threads() - before) == 2
        engine.close()
        wait_until(lambda: threads() <= before)


def threads() -> set[str]:
    """Return the threads of this process, of which those of earlier tests may still be ending."""
    return listed("task")


def listed(what: str) -> set[str]:
    """Return the names of the threads or open files of this process."""
    return {path.name for path in Path(f"/proc/self/{what}").iterdir()}


class TestCancel:
    def test_drops_waiting_texts(self, engine: Engine, held: Held, ran: list[Runner]) -> None:
        running = call_of("9", "9 9")
        engine.start(running)
        assert held.running.wait(SECONDS)
        wait_until_all_run(engine)
        waiting = call_of("1", "2 3")
        engine.start(waiting)
        assert engine.stats().waiting_texts == 2
        engine.cancel(waiting)
        assert engine.stats().waiting_texts == engine.stats().waiting_tokens == 0
        held.go_on.set()
        engine.wait(running)
        with pytest.raises(ClosedError, match="cancelled"):
            engine.wait(waiting)
        assert len(ran) == 2

    def test_a_text_that_others_wait_for_stays(self, engine: Engine, held: Held) -> None:
        both = [call_of("9 1"), call_of("9 1")]
        for call in both:
            engine.start(call)
        assert held.running.wait(SECONDS)
        engine.cancel(both[0])
        held.go_on.set()
        engine.wait(both[1])
        assert both[1].vectors[0, 1] == 1


class TestInsideACall:
    """What handlers of signals and finalizers do in a thread that holds the engine's lock."""

    @pytest.fixture
    def embedder(self, tiny: Path) -> Embedder:
        """The tiny bundle with one thread: never closed here, because a fault would hang there."""
        return Embedder.load(tiny, threads=1)

    @pytest.fixture
    def inside(self, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
        """Functions that are called once, while the lock is held."""
        called: list[Callable[[], object]] = []
        put = Queue.put

        def putting(queue: Queue, *arguments: Any) -> None:
            while called:
                called.pop()()
            put(queue, *arguments)

        monkeypatch.setattr(Queue, "put", putting)
        return called

    def encode(self, embedder: Embedder) -> NDArray[np.float32]:
        """Encode in a thread, in which nothing may hang."""
        vectors: list[NDArray[np.float32]] = []
        thread = threading.Thread(
            target=lambda: vectors.append(embedder.encode("w1 w2")), daemon=True
        )
        thread.start()
        thread.join(SECONDS)
        assert not thread.is_alive()
        return vectors[0]

    def test_a_stream_is_collected(
        self, embedder: Embedder, inside: list[Callable[[], object]]
    ) -> None:
        stream = embedder.embed_stream("w9" for _ in range(3 * STREAM_BLOCK))
        next(stream)
        inside.append(gc.collect)
        gc.disable()
        try:
            cycle: list[object] = [stream]
            cycle.append(cycle)
            del cycle, stream
            assert np.array_equal(self.encode(embedder), VECTOR[0])
        finally:
            gc.enable()
        wait_until_all_run(embedder._engine)

    def test_closed(self, embedder: Embedder, inside: list[Callable[[], object]]) -> None:
        inside.append(embedder.close)
        assert np.array_equal(self.encode(embedder), VECTOR[0])
        with pytest.raises(ClosedError, match=CLOSED):
            embedder.encode("w1")

    @pytest.mark.parametrize("call", ["encode", "count_tokens"])
    def test_called(
        self, embedder: Embedder, inside: list[Callable[[], object]], call: str
    ) -> None:
        refused = []

        def handler() -> None:
            with pytest.raises(EmbedrtError, match=r"^a signal handler or a finalizer called"):
                getattr(embedder, call)("w1")
            refused.append(True)

        inside.append(handler)
        assert np.array_equal(self.encode(embedder), VECTOR[0])
        assert refused
        assert np.array_equal(self.encode(embedder), VECTOR[0])


class TestOverload:
    def test_refused_before_it_is_queued(self, tiny: Path, held: Held) -> None:
        engine = Engine(tiny / GRAPH, "fp32", 1, tokenize, max_tokens=8, max_waiting_tokens=20)
        engine.run(call_of(*(f"1 {number}" for number in range(9)), "1 2 3"))  # idle: not refused
        running = call_of("9")
        engine.start(running)
        assert held.running.wait(SECONDS)
        engine.start(call_of("1 2 3 4 5"))
        pattern = r"^about \d+ tokens are waiting and max_waiting_tokens is 20: call again later"
        with pytest.raises(OverloadedError, match=pattern):
            engine.start(call_of(*(f"1 {number}" for number in range(20))))
        assert engine.stats().waiting_texts == 1
        held.go_on.set()
        engine.wait(running)
        engine.close()


class TestFailures:
    def test_a_text_fails_only_its_own_call(self, engine: Engine, held: Held) -> None:
        """Other calls succeed although a token in the same batch is outside the embedding table."""
        block = call_of("9", "9 9")
        engine.start(block)
        assert held.running.wait(SECONDS)
        wait_until_all_run(engine)
        good, bad, also_good = call_of("1 2"), call_of(f"1 {WORDS}"), call_of("2 3", "4 5")
        for call in (good, bad, also_good):
            engine.start(call)
        held.go_on.set()
        engine.wait(good)
        engine.wait(also_good)
        with pytest.raises(BundleCorruptError, match="bounds"):
            engine.wait(bad)
        assert (good.vectors == VECTOR).all()
        assert also_good.vectors.argmax(axis=1).tolist() == [2, 4]


class Layered:
    """Kernels with three layers. A batch with token 9 waits in each for the test."""

    name, dimension, mixes = "layered", WORDS, True

    def __init__(self) -> None:
        self.regions: Regions = []
        self.running = threading.Event()
        self.layers = threading.Semaphore(0)

    def on(self, _: int) -> Layered:
        return self

    def run(self, texts: TextIds, pauses: Pauses | None = None) -> FloatArray:
        for _ in range(3):
            if any((ids == 9).any() for ids in texts):
                self.running.set()
                assert self.layers.acquire(timeout=SECONDS)
            if pauses is not None and pauses.wanted.value:
                pauses.use()
        return np.array([np.bincount(ids, minlength=WORDS) for ids in texts], np.float32)


class TestPauses:
    @pytest.fixture
    def kernels(self) -> Layered:
        return Layered()

    @pytest.fixture
    def layered(self, tiny: Path, kernels: Layered) -> Iterator[Engine]:
        engine = Engine(tiny / GRAPH, "int8", 1, tokenize, max_tokens=256, kernels=kernels)
        yield engine
        kernels.layers.release(3)
        engine.close()

    @pytest.fixture
    def corpus(self) -> Call:
        """A call that has run for long when its last text, with token 9, runs."""
        return call_of(*(f"{word} " * TOKENS_PER_BATCH for word in range(8)), "9")

    def check_corpus(self, corpus: Call) -> None:
        expected = [*(TOKENS_PER_BATCH * np.eye(WORDS)[:8]), np.eye(WORDS)[9]]
        assert (corpus.vectors == expected).all()

    @pytest.mark.parametrize("texts", [["1 2"], ["1 2", "3", "1 1 1"]])
    def test_a_small_call_runs_between_layers(
        self, layered: Engine, kernels: Layered, corpus: Call, texts: list[str]
    ) -> None:
        layered.start(corpus)
        assert kernels.running.wait(SECONDS)
        small = call_of(*texts)
        layered.start(small)
        kernels.layers.release()
        layered.wait(small)
        assert not corpus.done.is_set()
        assert small.vectors.sum() == sum(len(text.split()) for text in texts)
        kernels.layers.release(2)
        layered.wait(corpus)
        self.check_corpus(corpus)
        assert layered.stats().tokens == corpus.vectors.sum() + small.vectors.sum()

    def test_one_batch_runs_in_each(self, layered: Engine, kernels: Layered, corpus: Call) -> None:
        """Small calls that keep arriving do not stop the corpus."""
        layered.start(corpus)
        assert kernels.running.wait(SECONDS)
        small = [call_of(" ".join(["1"] * 40 + [str(word)])) for word in range(5)]
        for call in small:
            layered.start(call)
        kernels.layers.release()
        layered.wait(small[0])
        kernels.layers.release()
        layered.wait(small[1])
        assert not any(call.done.is_set() for call in (*small[2:], corpus))
        kernels.layers.release()
        layered.wait(corpus)
        for call in small:
            layered.wait(call)

    def test_not_for_a_long_call(self, layered: Engine, kernels: Layered, corpus: Call) -> None:
        layered.start(corpus)
        assert kernels.running.wait(SECONDS)
        long = call_of("1 " * (8 * SHORT_BATCH))
        layered.start(long)
        kernels.layers.release(3)
        layered.wait(long)
        assert corpus.done.is_set()

    def test_a_failing_call_fails_alone(
        self, layered: Engine, kernels: Layered, corpus: Call
    ) -> None:
        def fail(_: Sequence[str]) -> list[TokenIds]:
            raise ArithmeticError

        layered.start(corpus)
        assert kernels.running.wait(SECONDS)
        failing = call_of("1 2")
        failing.tokenize = fail
        layered.start(failing)
        kernels.layers.release(3)
        with pytest.raises(ArithmeticError):
            layered.wait(failing)
        layered.wait(corpus)
        self.check_corpus(corpus)

    def test_an_interrupt_ends_the_call_of_its_thread(
        self, layered: Engine, kernels: Layered, corpus: Call
    ) -> None:
        """Ctrl-C in a pause ends the corpus, whose thread uses the pause for another call."""
        raised: list[bool] = []

        def interrupt_once(texts: Sequence[str]) -> list[TokenIds]:
            if not raised:
                raised.append(True)
                raise KeyboardInterrupt
            return tokenize(texts)

        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(layered.run, corpus)
            assert kernels.running.wait(SECONDS)
            small = call_of("1 2")
            small.tokenize = interrupt_once
            layered.start(small)
            kernels.layers.release()
            with pytest.raises(KeyboardInterrupt):
                run.result(SECONDS)
        layered.wait(small)
        assert (small.vectors == VECTOR).all()
        with pytest.raises(ClosedError, match="cancelled"):
            layered.wait(corpus)
        wait_until_idle(layered)


class TestCores:
    def test_no_more_than_asked_for(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The limit holds for concurrent runs, tokenization and counting of tokens."""
        lock, busy, most = threading.Lock(), 0, 0
        run = Session.run

        def counted(work: Callable[..., Any], *arguments: Any) -> Any:
            nonlocal busy, most
            with lock:
                busy += 1
                most = max(most, busy)
            try:
                time.sleep(0.0005)
                return work(*arguments)
            finally:
                with lock:
                    busy -= 1

        monkeypatch.setattr(Session, "run", lambda *arguments: counted(run, *arguments))
        engine = Engine(
            tiny / GRAPH, "fp32", 2, lambda texts: counted(tokenize, texts), max_tokens=8
        )

        def work(number: int) -> None:
            for turn in range(5):
                engine.run(call_of(*(f"{number % 10} {text % 10}" for text in range(turn))))
                with engine.core():
                    counted(time.sleep, 0)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
        assert most == 2
        wait_until_idle(engine)
        engine.close()
