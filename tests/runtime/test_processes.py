"""Tests of forks, other processes, signals and small machines, in programs with a timeout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from children import SECONDS, run, started
from embedrt import Embedder
from waiting import wait_until

SIGHUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # which Windows does not have
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

SAME = """
embedder = Embedder.load(sys.argv[1], threads=2)
expected = embedder.encode(TEXTS).tobytes()


def differs():
    alone = b"".join(embedder.encode(text).tobytes() for text in TEXTS)
    return not alone == embedder.encode(TEXTS).tobytes() == expected
"""


@needs_fork
class TestFork:
    @pytest.mark.parametrize(
        "before",
        [
            "",
            "embedder.encode(TEXTS)",
            "use_all_cores(embedder)",
            "use_all_cores(embedder); embedder.encode(TEXTS)",
            "for _ in range(4): embedder.encode('w1')  # the load has only begun",
        ],
        ids=["loaded", "many", "all cores", "both", "loading"],
    )
    def test_works_in_children_and_afterwards(self, minilm: Path, before: str) -> None:
        program = f"""{SAME}
embedder = Embedder.load(sys.argv[1], threads=2)
{before}
print(run_children(differs, times=2), differs())
print(run_children(lambda: run_children(differs) != [0]), differs())
"""
        assert run(program, minilm) == "[0, 0] False\n[0] False\n"

    def test_repeatedly(self, tiny: Path) -> None:
        program = f"""{SAME}
for _ in range(20):
    use_all_cores(embedder)
    assert run_children(differs) == [0]
"""
        run(program, tiny)

    def test_pool(self, minilm: Path) -> None:
        program = f"""{SAME}
import multiprocessing


def encode(text):
    return embedder.encode(text)  # the parent's


use_all_cores(embedder)
with multiprocessing.get_context("fork").Pool(2) as pool:
    alone = pool.map(encode, TEXTS * 3, chunksize=4)
    print(b"".join(vector.tobytes() for vector in alone) == expected * 3)
"""
        assert run(program, minilm) == "True\n"

    def test_a_closed_one_stays_closed(self, tiny: Path) -> None:
        program = """
embedder = Embedder.load(sys.argv[1], threads=2)
use_all_cores(embedder)
embedder.encode(TEXTS)
embedder.close()


def raises():
    for texts in ("w1", TEXTS):
        try:
            embedder.encode(texts)
        except ClosedError:
            continue
        return 1
    return 0


print(run_children(raises))
"""
        assert run(program, tiny) == "[0]\n"

    def test_while_another_thread_starts_a_worker(self, tiny: Path) -> None:
        """The fork waits for the engine's lock, and the thread for that of the executor."""
        program = f"""{SAME}
held = threading.Event()


def start():
    with embedder._engine._lock:
        held.set()
        time.sleep(0.3)  # the fork begins
        embedder._engine._workers.start(int)


thread = threading.Thread(target=start)
thread.start()
held.wait()
print(run_children(differs), differs())
thread.join()
"""
        assert run(program, tiny) == "[0] False\n"

    def test_while_another_thread_encodes(self, minilm: Path) -> None:
        """The child works or says what to do; the parent continues."""
        program = f"""{SAME}
def tell():
    told = set()
    for texts in ("w1", TEXTS):
        try:
            embedder.encode(texts)
        except ForkedError as error:
            told.add(str(error))
    if not told:
        return differs()
    (message,) = told
    with Embedder.load(sys.argv[1]) as anew:
        assert anew.encode(TEXTS).tobytes() == expected
    os.write(1, message.encode() + b"\\n")
    return 2


def encode():
    while not done:
        assert not differs()


done = False
threads = [threading.Thread(target=encode) for _ in range(2)]
for thread in threads:
    thread.start()
statuses = []
while len(statuses) < 6 or 2 not in statuses:  # some forks may be between two calls
    time.sleep(0.02)
    statuses += run_children(tell)
done = True
for thread in threads:
    thread.join()
assert set(statuses) <= {{0, 2}}, statuses
assert not differs()
"""
        (message,) = set(run(program, minilm).splitlines())
        assert message == (
            "this process was forked while an Embedder of its parent was running, and may hang on "
            "its locks; fork before encoding, or load the bundle after the fork"
        )


class TestOtherProcesses:
    def test_spawned(self, embedder: Embedder) -> None:
        texts = ["one", "two words"]
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found = pool.submit(embedder.encode, texts).result(timeout=SECONDS)
        assert found.tobytes() == embedder.encode(texts).tobytes()

    def test_joblib(self, minilm: Path) -> None:
        pytest.importorskip("joblib")
        program = f"""{SAME}
from joblib import Parallel, delayed

alone = Parallel(n_jobs=2, backend="loky")(delayed(embedder.encode)(text) for text in TEXTS)
print(b"".join(vector.tobytes() for vector in alone) == expected)
"""
        assert run(program, minilm) == "True\n"


@pytest.mark.alone
@needs_signals
class TestInterrupt:
    @pytest.mark.parametrize(
        "encode",
        [
            "embedder.encode(texts)",
            "[embedder.encode(text) for text in texts]",
            "for block in embedder.embed_stream(texts): pass",
        ],
        ids=["many", "one by one", "stream"],
    )
    def test_long_work_stops_at_once_and_can_be_repeated(self, minilm: Path, encode: str) -> None:
        program = f"""
import sys, threading, time
from embedrt import Embedder

embedder = Embedder.load(sys.argv[1], threads=2)
expected = embedder.encode("text").tobytes()
texts = [f"{{'word ' * 250}}{{number}}" for number in range(20_000)]
before = embedder.stats().batches


def tell():
    while embedder.stats().batches < before + 3:
        time.sleep(0.01)
    print("started", flush=True)


threading.Thread(target=tell).start()
try:
    {encode}
except KeyboardInterrupt:
    print("interrupted", flush=True)
assert embedder.encode("text").tobytes() == expected
assert embedder.encode(["text", "some text"])[0].tobytes() == expected
print("ok", flush=True)
"""
        with started("-c", program, minilm) as process:
            assert process.stdout
            assert process.stdout.readline() == "started\n"
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            assert process.communicate(timeout=SECONDS) == ("interrupted\nok\n", "")
            assert time.monotonic() - start < 20  # all the texts take minutes
        assert process.returncode == 0


@pytest.fixture
def half_written(tiny: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """An ``embedrt encode --output`` process that has written some vectors and waits for texts."""
    output = tmp_path / "out" / "vectors.npy"
    output.parent.mkdir()
    output.write_bytes(b"of yesterday")
    with started("-m", "embedrt", "encode", tiny, "--output", output) as process:
        assert process.stdin
        process.stdin.write("w1\n" * 10_000)
        process.stdin.flush()
        wait_until(
            lambda: any(path.stat().st_size > 10_000 for path in output.parent.glob(".vectors.*")),
            SECONDS,
        )
        yield process


@needs_signals
class TestCommand:
    @pytest.mark.parametrize(
        ("number", "status", "told"),
        [
            (signal.SIGTERM, 143, ""),
            (SIGHUP, 128 + SIGHUP, ""),
            (signal.SIGINT, 130, "embedrt: interrupted\n"),
        ],
    )
    def test_ended_while_it_writes(
        self,
        half_written: subprocess.Popen[str],
        tmp_path: Path,
        number: signal.Signals,
        status: int,
        told: str,
    ) -> None:
        half_written.send_signal(number)
        assert half_written.wait(timeout=SECONDS) == status
        assert half_written.stderr
        assert half_written.stderr.read() == told
        (output,) = (tmp_path / "out").iterdir()
        assert output.read_bytes() == b"of yesterday"

    def test_killed_while_it_writes(
        self, half_written: subprocess.Popen[str], tmp_path: Path
    ) -> None:
        half_written.kill()
        half_written.wait(timeout=SECONDS)
        assert (tmp_path / "out" / "vectors.npy").read_bytes() == b"of yesterday"

    def test_reader_that_stops_early(self, tiny: Path, tmp_path: Path) -> None:
        texts = tmp_path / "texts.txt"
        texts.write_text("w1\n" * 20_000, encoding="utf-8")
        with started("-m", "embedrt", "encode", tiny, texts) as process:
            assert process.stdout
            assert process.stdout.readline() == str([0.0, 1.0] + [0.0] * 8) + "\n"
            process.stdout.close()
            assert process.wait(timeout=SECONDS) == 141
            assert process.stderr
            assert process.stderr.read() == ""

    @pytest.mark.parametrize("command", ["encode", "info", "verify", "search"])
    def test_no_reader(self, tiny: Path, command: str) -> None:
        """Even the flush when the process ends finds no reader."""
        unread, output = os.pipe()
        os.close(unread)
        options = ["--query", "w1"] if command == "search" else []
        process = subprocess.run(
            [sys.executable, "-m", "embedrt", command, str(tiny), *options],
            input=b"w1\n",
            stdout=output,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            timeout=SECONDS,
            check=False,
        )
        os.close(output)
        assert (process.returncode, process.stderr) == (141, b"")


class TestEndOfTheMainThread:
    """Other threads, and functions of atexit, outlive the main thread."""

    def test_other_threads_continue(self, minilm: Path) -> None:
        program = """
embedder = Embedder.load(sys.argv[1], threads=2)
many = [f"{text} {number}" for text in TEXTS for number in range(10)]
expected = embedder.encode(many).tobytes()


def work():
    main.join()
    os.write(1, f"{embedder.encode(many).tobytes() == expected}\\n".encode())


main = threading.main_thread()
for _ in range(4):
    threading.Thread(target=work).start()
"""
        assert run(program, minilm).splitlines() == ["True"] * 4

    @pytest.mark.parametrize(
        "call", ["encode(many)", "encode_document(many)", "embed(many).vectors"]
    )
    def test_functions_of_atexit(self, minilm: Path, call: str) -> None:
        program = f"""
import atexit

embedder = Embedder.load(sys.argv[1], threads=2)
many = [f"{{text}} {{number}}" for text in TEXTS for number in range(10)]
expected = embedder.encode(many).tobytes()
atexit.register(lambda: print(embedder.{call}.tobytes() == expected, flush=True))
"""
        assert run(program, minilm) == "True\n"


@needs_proc
class TestLimitOfThreads:
    PROGRAM = """
import asyncio, resource
from embedrt.errors import EmbedrtError

embedder = Embedder.load(sys.argv[1], threads=2)
many = [f"w{number % 10} w{number // 10 % 10}" for number in range(3000)]
expected = embedder.encode(many[:1]).tobytes()
embedder = Embedder.load(sys.argv[1], threads=2)  # has not started threads yet
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
threading.stack_size(512 << 20)
resource.setrlimit(resource.RLIMIT_AS, (size + (256 << 20), -1))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("no threads", flush=True)
assert embedder.encode(many)[:1].tobytes() == expected  # in its own thread
for call in (lambda: asyncio.run(embedder.aencode(many)), lambda: [*embedder.embed_stream(many)]):
    try:
        call()
    except EmbedrtError as error:
        print(type(error).__name__, error, flush=True)
assert embedder.waiting_tokens == 0
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
threading.stack_size(0)
blocks = [*embedder.embed_stream(many)]
assert blocks[0][:1].tobytes() == expected and sum(map(len, blocks)) == 3000
"""

    def test_calls_run_in_their_own_thread_or_say_why_not(self, tiny: Path) -> None:
        first, *others = run(self.PROGRAM, tiny).splitlines()
        assert first == "no threads"
        told = "EmbedrtError no thread can be started for this call: the limit of threads"
        assert [line[: len(told)] for line in others] == [told] * 2


@needs_proc
class TestSmallMachines:
    COUNT = """
def count():
    return len(os.listdir("/proc/self/task"))


imported = count()
embedder = Embedder.load(sys.argv[1], threads=eval(sys.argv[2]))
loaded = count()
many = [f"{text} {number}" for text in TEXTS for number in range(40)]  # batches for all workers
for _ in range(2):
    embedder.encode(many)
    if embedder._engine.threads > 1:
        use_all_cores(embedder)
    embedder.encode("w1")
print(embedder._engine.threads, loaded - imported, count() - imported)
"""

    @pytest.mark.parametrize(("threads", "most"), [(1, 0), (2, 2 + 1), (3, 3 + 2)], ids=str)
    def test_no_more_threads_than_documented(self, minilm: Path, threads: int, most: int) -> None:
        """The threads are workers and those of the session for all cores, besides the caller's.

        Those of the kernels exist only while they run a batch.
        """
        program = self.COUNT + "print(embedder.stats().engine)"
        counts, engine = run(program, minilm, str(threads)).splitlines()
        told, loaded, in_the_end = map(int, counts.split())
        assert (told, loaded) == (threads, 0)
        remaining = 1 if engine.startswith("kernels") else 2
        assert remaining * (threads - 1) <= in_the_end <= most

    def test_one_core(self, minilm: Path) -> None:
        core = min(os.sched_getaffinity(0))
        program = f"os.sched_setaffinity(0, [{core}])" + self.COUNT
        assert run(program, minilm, "None") == "1 0 0\n"

    def test_nothing_spins_when_idle(self, minilm: Path) -> None:
        """What spins does so in each of the seconds; what disturbs the measurement does not."""
        program = """
embedder = Embedder.load(sys.argv[1], threads=2)
embedder.encode(TEXTS)
use_all_cores(embedder)
seconds = []
for _ in range(3):
    embedder.encode("w1")
    before = time.process_time()
    time.sleep(1)
    seconds.append(time.process_time() - before)
print(min(seconds))
"""
        assert float(run(program, minilm)) < 0.02
