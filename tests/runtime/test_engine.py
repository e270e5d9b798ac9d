"""The sessions, and the threads that run them."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedrt.engine.scheduler
from embedrt import Embedder
from embedrt.bundle.reader import GRAPH
from embedrt.bundle.weights import WEIGHTS
from embedrt.engine.scheduler import ALONE_BEFORE_ALL_CORES, Engine
from embedrt.engine.session import FloatArray, Session
from embedrt.errors import ClosedError
from tiny_bundle import WORDS, make_tiny

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
IDS = np.array([[1, 2]])
VECTOR = np.array([[0, 1, 1] + [0] * (WORDS - 3)], np.float32)
CLOSED = "^this Embedder has been closed; load the bundle again$"


@pytest.fixture
def engine(tiny: Path) -> Iterator[Engine]:
    """The tiny bundle's graph on two cores."""
    engine = Engine(tiny / GRAPH, "fp32", 2)
    yield engine
    engine.close()


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """The sessions that ran, in order."""
    sessions: list[Session] = []
    run = Session.run

    def recording(session: Session, input_ids: NDArray[np.int64]) -> FloatArray:
        sessions.append(session)
        return run(session, input_ids)

    monkeypatch.setattr(Session, "run", recording)
    return sessions


def use_all_cores(engine: Engine, calls: int = ALONE_BEFORE_ALL_CORES) -> Session:
    """Come alone so often; wait for the session for all cores."""
    for _ in range(calls):
        engine.run_alone(IDS)
    assert engine._loading
    engine._loading.result(timeout=30)
    assert engine._all_cores
    return engine._all_cores


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes from call to call, it is no pause."""
    monkeypatch.setattr(embedrt.engine.scheduler, "SHORT_PAUSE", 3600.0)


class TestAllCores:
    def test_after_so_many_calls_alone(self, engine: Engine, ran: list[Session]) -> None:
        for _ in range(ALONE_BEFORE_ALL_CORES - 1):
            engine.run_alone(IDS)
        assert engine._loading is None
        use_all_cores(engine, calls=1)
        assert set(ran) == {engine._one_core}
        assert (engine.run_alone(IDS) == VECTOR).all()
        assert ran[-1] is engine._all_cores
        engine.run(IDS)
        assert ran[-1] is engine._one_core

    def test_batches_do_not_count(self, engine: Engine) -> None:
        for _ in range(3 * ALONE_BEFORE_ALL_CORES):
            engine.submit(engine.run, IDS).result()
        assert engine._loading is None

    def test_never_with_one_thread(self, tiny: Path) -> None:
        with Embedder.load(tiny, threads=1) as embedder:
            for _ in range(3 * ALONE_BEFORE_ALL_CORES):
                embedder.encode("w1")
            assert embedder._engine._loading is None

    def test_a_text_alone_and_a_small_batch_are_alone(self, tiny_embedder: Embedder) -> None:
        for texts in ["w1", ["w1"], ["w1", "w2"], "w3"]:
            tiny_embedder.encode(texts)
        assert tiny_embedder._engine._loading

    def test_not_while_others_run(
        self, engine: Engine, ran: list[Session], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        all_cores = use_all_cores(engine)
        running, go_on = threading.Event(), threading.Event()
        run = Session.run

        def waiting(session: Session, input_ids: NDArray[np.int64]) -> FloatArray:
            vectors = run(session, input_ids)
            if len(input_ids) == 3:
                running.set()
                assert go_on.wait(30)
            return vectors

        monkeypatch.setattr(Session, "run", waiting)
        for work in (engine.run, engine.run_alone):
            running.clear()
            go_on.clear()
            other = engine.submit(work, np.repeat(IDS, 3, axis=0))
            assert running.wait(30)
            engine.run_alone(IDS)
            assert ran[-1] is engine._one_core
            go_on.set()
            other.result()
            engine.run_alone(IDS)
            assert ran[-1] is all_cores

    def test_after_a_pause_only_for_a_long_run(
        self, engine: Engine, ran: list[Session], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        all_cores = use_all_cores(engine)
        monkeypatch.setattr(embedrt.engine.scheduler, "SHORT_PAUSE", 0.0)
        monkeypatch.setattr(embedrt.engine.scheduler, "LONG_RUN", 2.5 * engine._pace)
        engine.run_alone(IDS)
        assert ran[-1] is engine._one_core
        assert 0 < engine._pace < 1
        monkeypatch.setattr(embedrt.engine.scheduler, "LONG_RUN", 2.5 * engine._pace)
        engine.run_alone(np.tile(IDS, 2))
        assert ran[-1] is all_cores

    def test_never_for_short_texts_with_pauses(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedrt.engine.scheduler, "SHORT_PAUSE", 0.0)
        for _ in range(3 * ALONE_BEFORE_ALL_CORES):
            engine.run_alone(IDS)
        assert engine._loading is None

    def test_a_failed_run_does_not_count_as_running(self, engine: Engine) -> None:
        for _ in range(5):
            with pytest.raises(Exception, match="bounds"):
                engine.run_alone(np.array([[WORDS]]))
        assert engine._running == 0

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
        engine = Engine(Path(tiny.name) / GRAPH, "fp32", 2)
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
            assert embedder._engine._loading
            embedder._engine._loading.exception(timeout=30)
            assert embedder._engine._all_cores is None
            assert embedder.encode("w1").max() == 1

    @pytest.mark.parametrize("how", ["renamed", "overwritten", "touched", "removed"])
    def test_nor_from_other_weights(self, tiny: Path, tmp_path: Path, how: str) -> None:
        """The graph is the same. A file that was mapped is still there when its name is gone."""
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
            assert embedder._engine._loading
            embedder._engine._loading.exception(timeout=30)
            assert embedder._engine._all_cores is None


class TestPrepareToFork:
    """What a fork does first; that the child works is seen in programs of their own."""

    def test_waits_for_a_load(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded = []

        def slow(*arguments: Any, **options: Any) -> Session:
            time.sleep(0.3)
            loaded.append(Session(*arguments, **options))
            return loaded[-1]

        monkeypatch.setattr("embedrt.engine.scheduler.Session", slow)
        for _ in range(ALONE_BEFORE_ALL_CORES):
            engine.run_alone(IDS)
        engine.prepare_to_fork()
        assert loaded
        assert engine._all_cores is None
        assert use_all_cores(engine) is loaded[1]

    def test_but_not_for_one_that_has_not_begun(self, engine: Engine) -> None:
        go_on = threading.Event()
        for _ in range(engine.threads):
            engine.submit(go_on.wait, 30)
        for _ in range(ALONE_BEFORE_ALL_CORES):
            engine.run_alone(IDS)
        assert engine._loading
        loading = engine._loading
        engine.prepare_to_fork()
        assert loading.cancelled()
        go_on.set()
        use_all_cores(engine)


class TestManyThreads:
    def test_sixty_four_at_once(self, minilm: Path, ran: list[Session]) -> None:
        """Each asks for one text, a few, and for so many that all workers run."""
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
            embedder.encode(texts[0])
            assert set(ran) == {embedder._engine._one_core, all_cores}
            assert embedder._engine._running == 0


class TestClose:
    def test_no_work_afterwards(self, engine: Engine) -> None:
        engine.close()
        engine.close()
        with pytest.raises(ClosedError, match=CLOSED):
            engine.submit(engine.run, IDS)

    def test_between_a_text_s_check_and_its_run(self, engine: Engine) -> None:
        """It is finished, even where it would have had the other session loaded."""
        engine.close()
        for _ in range(ALONE_BEFORE_ALL_CORES):
            assert (engine.run_alone(IDS) == VECTOR).all()

    def test_work_before_it_is_finished(self, engine: Engine) -> None:
        waiting = threading.Event()
        blocked = [engine.submit(waiting.wait, 30) for _ in range(2)]
        queued = engine.submit(engine.run, IDS)
        engine.close()
        waiting.set()
        assert all(run.result(timeout=30) for run in blocked)
        assert (queued.result(timeout=30) == VECTOR).all()

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
                assert [outcome.result(timeout=30) for outcome in outcomes] == [ClosedError] * 4

    @needs_proc
    @pytest.mark.parametrize("end", [Embedder.close, lambda _: None], ids=["closed", "dropped"])
    def test_fifty_leave_no_threads_and_no_files(
        self, tiny: Path, end: Callable[[Embedder], None]
    ) -> None:
        def use() -> None:
            embedder = Embedder.load(tiny, threads=2)
            embedder.encode(["w1", "w1 w2", "w1 w2 w3"])
            use_all_cores(embedder._engine)
            embedder.encode("w1")
            end(embedder)

        before = count("task"), count("fd")
        for _ in range(50):
            use()
        gc.collect()
        wait_for_threads(before[0])
        assert count("fd") <= before[1]

    @needs_proc
    def test_all_threads_end(self, engine: Engine) -> None:
        before = count("task")
        use_all_cores(engine)
        assert count("task") == before + 2
        engine.close()
        wait_for_threads(before)


def wait_for_threads(number: int) -> None:
    """Wait until no more are left: they take a moment to end."""
    deadline = time.monotonic() + 10
    while count("task") > number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def count(what: str) -> int:
    """Threads or open files of this process."""
    return len([*Path(f"/proc/self/{what}").iterdir()])
