"""Tests of Ray as the engine: the same bytes whatever is killed, and nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import ray
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.cluster_utils import Cluster

from corpora import (
    Hold,
    digest_of_source,
    forked,
    held_command,
    hold_at,
    names,
    parts_in,
    write_parquet,
)
from embedrt import Bundle
from embedrt.corpus import embed, verify_output
from embedrt.corpus.on_ray import RayEngine
from embedrt.corpus.on_ray_worker import pack_bundle
from embedrt.corpus.output import TEMPORARY
from embedrt.corpus.places import find_place
from embedrt.corpus.prepare import prepare
from embedrt.errors import CorpusError
from fuzz.crashing_graphs import write_crashing_bundle
from waiting import wait_until

pytestmark = [
    # Ray leaves sockets and files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]

ROWS_PER_PART = 25
KILLS = 20
FILES_OF_KILLS = 200
SECONDS = 300  # timeout, longer than a cluster takes to start on a busy machine
RUN = "EMBEDRT_TEST_RUN"


def start(bundle: Path, hold: Hold, *options: str) -> subprocess.Popen[str]:
    """Start `embedrt embed source output`. Its messages go to the file `errors`."""
    arguments = ["embed", "source", "output", "--bundle", str(bundle), "--engine", "ray"]
    arguments += ["--rows-per-part", str(ROWS_PER_PART), *options]
    with (hold.folder / "errors").open("wb") as errors:
        return subprocess.Popen(
            **held_command(hold, *arguments),
            cwd=hold.folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            encoding="utf-8",
        )


def errors_in(folder: Path) -> str:
    return (folder / "errors").read_text(encoding="utf-8")


def wait_for(condition: Callable[[], Any]) -> Any:
    return wait_until(condition, SECONDS, pause=0.02)


def wait_for_more_parts(output: Path, count: int) -> None:
    wait_for(lambda: len(parts_in(output)) > count)


def workers() -> list[psutil.Process]:
    """Return the worker processes of all clusters that these tests started."""
    return [one for one, line in processes() if line == "ray::make_parts"]


def ray_processes() -> set[int]:
    """Return the processes of all clusters that these tests started."""
    return {
        one.pid for one, line in processes() if "embedrt-ray-" in line or line.startswith("ray::")
    }


def processes() -> Iterator[tuple[psutil.Process, str]]:
    """Yield the processes that these tests started, with their command lines."""
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline()).strip()
            if process.environ().get(RUN) == os.environ[RUN]:
                yield process, line
        except psutil.Error:
            continue


def assert_finished(output: Path, digest: str) -> None:
    assert verify_output(output).digest == digest
    assert not [name for name in names(output) if TEMPORARY.fullmatch(name)]


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files with a short path, as Ray's sockets need."""
    with tempfile.TemporaryDirectory(
        prefix="rt",
        dir="/tmp",
        ignore_cleanup_errors=True,  # where killed processes still end
    ) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


class TestOwnCluster:
    def test_the_same_bytes_and_nothing_left_behind(
        self, source: Path, tmp_path: Path, tiny: Path, home: Path, temporary: Path
    ) -> None:
        before = ray_processes()
        process = start(tiny, Hold(tmp_path, 0))  # without a gate
        out, _ = process.communicate(timeout=SECONDS)
        assert (process.returncode, errors_in(tmp_path)) == (0, "")
        digest = digest_of_source(source, tiny)
        assert digest in out
        assert_finished(tmp_path / "output", digest)
        assert list(temporary.glob("embedrt-ray-*")) == []
        wait_for(lambda: ray_processes() <= before)
        assert list(home.rglob("*")) == []  # no token that other users can read

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted(self, tmp_path: Path, tiny: Path, number: signal.Signals) -> None:
        source = write_parquet(tmp_path / "source", files=60)
        hold = hold_at(tmp_path, parts=9)
        process = start(tiny, hold, "--workers", "1")
        wait_for(lambda: parts_in(hold.output))
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        wait_for(lambda: "finishing the parts in flight" in errors_in(tmp_path))
        hold.gate.unlink()
        out, _ = process.communicate(timeout=SECONDS)
        err = errors_in(tmp_path)
        assert process.returncode == 128 + number, err
        assert "run the same command again to continue" in err
        rows = pq.read_table(tmp_path / "output").num_rows
        assert f"{rows:,} of 15,000 rows" in out
        assert embed(
            source, tmp_path / "output", bundle=tiny, rows_per_part=ROWS_PER_PART
        ).digest == digest_of_source(source, tiny)

    @pytest.mark.parametrize("whole", [False, True], ids=["driver", "everything"])
    @pytest.mark.usefixtures("temporary")
    def test_killed(self, tmp_path: Path, tiny: Path, whole: bool) -> None:
        """A new run completes the output after SIGKILL of the driver or of all its processes."""
        source = write_parquet(tmp_path / "source", files=60)
        output = tmp_path / "output"
        process = start(tiny, hold_at(tmp_path, parts=100), "--workers", "1")
        wait_for(lambda: parts_in(output))
        time.sleep(random.Random(0).uniform(0, 0.5))
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True) if whole else []
        for one in family:
            one.kill()
        process.communicate()
        if whole:
            for one in workers():  # they are in sessions of their own
                one.kill()
        wait_for(lambda: not workers())
        kept = parts_in(output)
        assert 0 < len(kept) < 60 * 13
        report = embed(source, output, bundle=tiny, rows_per_part=ROWS_PER_PART)
        assert report.digest == digest_of_source(source, tiny)
        assert kept.items() <= parts_in(output).items()
        assert_finished(output, report.digest)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster of a driver's node without cores for work and a node with two cores."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False},
    )
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.usefixtures("cluster")
class TestCluster:
    def test_every_format(self, tmp_path: Path, tiny: Path) -> None:
        (tmp_path / "source").mkdir()
        lines = "".join(f'{{"text": "w{row % 9} w{row % 4}"}}\n' for row in range(500))
        (tmp_path / "source" / "a.jsonl").write_text(lines, encoding="utf-8")
        write_parquet(tmp_path / "source" / "b", files=1)
        options: dict[str, Any] = {"bundle": tiny, "rows_per_part": 60}
        local = embed(tmp_path / "source", tmp_path / "local", **options)
        found = embed(tmp_path / "source", tmp_path / "ray", engine="ray", **options)
        for field in ("digest", "rows", "nulls", "cut", "parts", "tokens"):
            assert getattr(found, field) == getattr(local, field)
        for name in parts_in(tmp_path / "local"):
            same = (tmp_path / folder / name for folder in ("local", "ray"))
            assert len({file.read_bytes() for file in same}) == 1
        assert ray.is_initialized()

    def test_drivers_are_killed(self, cluster: Cluster, tmp_path: Path, tiny: Path) -> None:
        """Parts survive SIGKILL of drivers at random moments, and are not made again."""
        source = write_parquet(tmp_path / "source", files=FILES_OF_KILLS)
        output = tmp_path / "output"
        generator, kept = random.Random(0), dict[str, int]()
        command = ["embed", *map(str, (source, output)), "--bundle", str(tiny), "--engine", "ray"]
        command += ["--rows-per-part", str(ROWS_PER_PART), "--address", cluster.address]
        for _ in range(KILLS):
            process = forked(*command, hold=hold_at(tmp_path, len(kept) + 60))
            wait_for_more_parts(output, len(kept))
            time.sleep(generator.uniform(0, 0.3))
            process.kill()
            process.join(SECONDS)
            assert process.exitcode == -signal.SIGKILL
            wait_for(lambda: not workers())  # Ray ends the tasks of a driver that is gone
            found = parts_in(output)
            assert kept.items() <= found.items()  # no part is lost or made again
            kept = found
        process = forked(*command)
        process.join(SECONDS)
        assert process.exitcode == 0
        assert kept.items() < parts_in(output).items()
        assert_finished(output, digest_of_source(source, tiny))

    def test_a_worker_is_killed(self, tmp_path: Path, tiny: Path) -> None:
        source = write_parquet(tmp_path / "source", files=60)
        done = threading.Event()
        killed: list[int] = []

        def kill() -> None:
            while not done.is_set() and len(killed) < 3:
                wait_for(lambda: done.is_set() or len(parts_in(tmp_path / "output")) > 9)
                for one in workers()[:1]:
                    one.kill()
                    killed.append(one.pid)
                time.sleep(0.5)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            report = embed(
                source, tmp_path / "output", bundle=tiny, engine=RayEngine(), rows_per_part=25
            )
        finally:
            done.set()
            thread.join()
        assert killed
        assert report.complete
        assert_finished(tmp_path / "output", digest_of_source(source, tiny))

    def test_a_node_is_killed(self, cluster: Cluster, tmp_path: Path, tiny: Path) -> None:
        source = write_parquet(tmp_path / "source", files=60)
        node = cluster.add_node(num_cpus=2)
        pids = [info.process.pid for info in node.all_processes["raylet"]]

        def kill() -> None:
            wait_for(lambda: len(parts_in(tmp_path / "output")) > 9)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        report = embed(
            source, tmp_path / "output", bundle=tiny, engine=RayEngine(), rows_per_part=25
        )
        thread.join()
        assert report.complete
        assert_finished(tmp_path / "output", digest_of_source(source, tiny))
        cluster.remove_node(node, allow_graceful=False)

    def test_a_part_that_kills_every_worker_is_reported_and_others_complete(
        self, tmp_path: Path
    ) -> None:
        source = write_parquet(tmp_path / "source", files=1, rows=40)
        bundle = tmp_path / "crashing"
        bundle.mkdir()
        write_crashing_bundle(bundle)
        report = embed(source, tmp_path / "output", bundle=bundle, engine="ray", rows_per_part=25)
        assert not report.complete
        assert sorted(reason.partition(":")[0] for reason in report.failures) == [
            "part-0.parquet, rows 0 to 19",
            "part-0.parquet, rows 20 to 39",
        ]
        assert all("failed 3 times, finally with" in reason for reason in report.failures)

    def test_an_output_that_fails_twice(self, source: Path, tmp_path: Path, tiny: Path) -> None:
        """As an object store may."""
        output, tries, driver = tmp_path / "output", tmp_path / "tries", os.getpid()

        class Failing(FSSpecHandler):  # type: ignore[misc]
            """Local, and so sent to the workers by value."""

            def open_output_stream(self, path: str, metadata: Any) -> Any:
                if os.getpid() != driver:
                    with tries.open("ab") as file:
                        file.write(b"x")
                        if file.tell() <= 2:
                            raise OSError("503, slow down")
                return super().open_output_stream(path, metadata)

        failing = PyFileSystem(Failing(LocalFileSystem()))
        report = embed(source, str(output), bundle=tiny, engine="ray", output_filesystem=failing)
        assert report.complete
        assert tries.stat().st_size > 2
        assert_finished(output, digest_of_source(source, tiny))

    def test_an_engine_that_a_worker_lacks(self, source: Path, tmp_path: Path, tiny: Path) -> None:
        """The kernels, which run no bundle in fp32."""
        output = tmp_path / "output"
        embed(source, output, bundle=tiny)
        settings = json.loads((output / "_embedrt.json").read_text(encoding="utf-8"))
        settings["engine"] = "kernels"
        (output / "_embedrt.json").write_text(json.dumps(settings), encoding="utf-8")
        next(iter(output.glob("0*"))).unlink()
        with pytest.raises(CorpusError, match=r"by kernels, which .+ cannot run .*KERNELS=off$"):
            embed(source, output, bundle=tiny, engine="ray")

    def test_the_bundle_is_sent_where_its_folder_is_not(
        self, source: Path, tmp_path: Path, tiny: Path
    ) -> None:
        job = prepare(
            find_place(source),
            find_place(tmp_path / "output"),
            Bundle.open(tiny),
            text="text",
            columns=None,
            rows_per_part=100,
            skip_unreadable=False,
        )
        shipped = ray.put(pack_bundle(tiny))

        def find_it(work: Any, shipped: list[Any]) -> str:
            from embedrt.corpus.on_ray_worker import find_bundle

            return str(find_bundle(work, shipped[0]))

        find = ray.remote(find_it)
        elsewhere = dataclasses.replace(job.work, bundle=tmp_path / "not here")
        assert ray.get(find.remote(job.work, [shipped])) == str(tiny)
        folder = Path(ray.get(find.remote(elsewhere, [shipped])))
        assert folder.stat().st_mode & 0o077 == 0
        assert Bundle.open(folder, verify="sha256").manifest == Bundle.open(tiny).manifest
        assert ray.get(find.remote(elsewhere, [shipped])) == str(folder)  # once per node
        weights = folder / "weights.bin"
        weights.write_bytes(b"x" * weights.stat().st_size)  # changed after it was sent
        again = Path(ray.get(find.remote(elsewhere, [shipped])))
        assert Bundle.open(again, verify="sha256")
        for one in {folder, again}:
            for file in one.iterdir():
                file.unlink()
            one.rmdir()

    def test_more_cores_than_a_node_has(self, source: Path, tmp_path: Path, tiny: Path) -> None:
        with pytest.raises(CorpusError, match="cores_per_worker=99, and no node"):
            embed(source, tmp_path / "o", bundle=tiny, engine=RayEngine(cores_per_worker=99))


def test_options() -> None:
    with pytest.raises(ValueError, match="workers=0; expected at least 1"):
        RayEngine(workers=0)
