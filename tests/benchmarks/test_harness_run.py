"""Tests of the harness with real processes of fake contenders, some of which fail."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import MAIN_MODEL
from benchmarks.checkout import ROOT
from benchmarks.harness import environments
from benchmarks.harness.artifacts import Artifacts
from benchmarks.harness.catalog import Entry, contenders
from benchmarks.harness.measuring import PAUSE, take_turns
from benchmarks.harness.plan import Workload
from benchmarks.harness.processes import Pool
from benchmarks.harness.rows import Row, append_rows, read_rows
from benchmarks.harness.run import Run, run_model
from benchmarks.statistics import median

FAKES = Path(__file__).parent / "fakes"
LOG = "FAKE_CONTENDERS_LOG"
SECONDS = 300  # timeout, longer than anything takes on a busy machine
CORPUS = Workload("corpus", "call", "mixed/8", 3)
LATENCY = Workload("latency/16", "each", "exact/16", 2, "latency")


@pytest.fixture
def folder(tmp_path: Path, minilm: Path) -> Path:
    """A folder of prepared models, with only a tokenizer in it."""
    source = tmp_path / "models" / MAIN_MODEL / "source"
    source.mkdir(parents=True)
    shutil.copy(minilm / "tokenizer.json", source)
    return tmp_path / "models"


def make_run(folder: Path, *names: str, timeout: float = SECONDS) -> Run:
    known = contenders(FAKES)
    return Run(
        {name: known[name] for name in names},
        folder.parent / "rows.jsonl",
        known["right"],
        timeout,
        folder,
    )


def measured(run: Run, *workloads: Workload) -> list[Row]:
    run_model(run, MAIN_MODEL, workloads)
    return read_rows(run.output)


def loads(log: Path) -> list[str]:
    """Return the contenders that were loaded, in order."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return [line.rpartition(" ")[0] for line in lines]


def assert_all_ended(log: Path) -> None:
    """Assert that every worker ends with its harness."""
    left = {int(line.rpartition(" ")[2]) for line in log.read_text(encoding="utf-8").splitlines()}
    deadline = time.monotonic() + SECONDS
    while left and time.monotonic() < deadline:
        left = {process for process in left if is_running(process)}
        time.sleep(0.05)
    assert not left


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/status")
    return not (status.is_file() and "State:\tZ" in status.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_contenders_have_a_value_for_each_repetition(folder: Path) -> None:
    rows = measured(make_run(folder, "right", "right too"), CORPUS, LATENCY)
    assert [(row.contender, row.workload, row.measure, len(row.values)) for row in rows] == [
        ("right", "corpus", "seconds", 3),
        ("right too", "corpus", "seconds", 3),
        ("right", "latency/16", "seconds", 40),  # 20 texts, one per call, in two repetitions
        ("right too", "latency/16", "seconds", 40),
    ]
    assert all(value > 0 for row in rows for value in row.values)
    assert [row.texts for row in rows] == [8, 8, 20, 20]
    assert rows[2].tokens == 20 * 16
    assert rows[0].tokens > 8 * 10
    assert not any(row.error for row in rows)
    assert rows[0].machine.cores >= 1
    assert rows[0].versions["numpy"]
    assert rows[0].commit


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrong", r"answered wrongly: cosine to the fp32 reference .* in the mean"),
        ("unscaled", "answered wrongly: a vector has length 2.000"),
        ("short", r"answered wrongly: vectors of shape \(7, 8\), not \(8, 8\)"),
        ("dies", "crashed: signal SIGABRT"),
        ("dies loading", "crashed: exit status 3"),
        # Without the folder of the checkout.
        ("refuses", r"failed: ValueError: no such thing as 8 vectors in tests.benchmarks.fakes"),
    ],
)
def test_a_failure_is_reported_and_affects_no_other(folder: Path, name: str, reason: str) -> None:
    failed, right = measured(make_run(folder, name, "right"), CORPUS)
    assert (failed.contender, failed.values) == (name, ())
    assert re.search(reason, failed.error)
    assert len(right.values) == 3
    assert not right.error


@pytest.mark.slow
def test_a_contender_that_hangs_is_killed_and_not_started_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    rows = measured(make_run(folder, "hangs", "right", timeout=20), CORPUS, LATENCY)
    assert loads(tmp_path / "log").count("hangs throughput") == 1
    assert "hangs latency" not in loads(tmp_path / "log")
    assert_all_ended(tmp_path / "log")
    errors = {(row.contender, row.workload): row.error for row in rows}
    assert errors == {
        ("hangs", "corpus"): "hung: no answer within 20 s",
        ("right", "corpus"): "",
        ("hangs", "latency/16"): "hung: no answer within 20 s",
        ("right", "latency/16"): "",
    }


def test_output_of_a_library_is_not_taken_for_an_answer(folder: Path) -> None:
    (row,) = measured(make_run(folder, "chatty"), CORPUS)
    assert not row.error


@pytest.mark.slow
def test_a_failed_installation_is_reported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "environments"
    requirements.mkdir()
    (requirements / "nowhere.txt").write_text(
        "--no-index\nno-package-has-this-name\n", encoding="utf-8"
    )
    monkeypatch.setattr(environments, "REQUIREMENTS", requirements)
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "made")
    run = make_run(folder, "right", "right too")
    missing = replace(run.contenders["right too"], environment="nowhere")
    right, row = measured(replace(run, contenders={**run.contenders, "right too": missing}), CORPUS)
    assert not right.error
    assert row.error.startswith("not installed: nowhere: ERROR:")
    assert "no-package-has-this-name" in row.error
    assert row.versions == {}


def test_without_a_compiler_the_kernels_are_left_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "made")
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    run = make_run(folder, "right", "right too")
    native = replace(run.contenders["right too"], environment="embedrt-kernels")
    right, row = measured(replace(run, contenders={**run.contenders, "right too": native}), CORPUS)
    assert not right.error
    assert row.error == "not installed: embedrt-kernels: there is no C++ compiler"
    assert not (tmp_path / "made").exists()


def test_environments_are_made_in_parallel_and_each_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    both = threading.Barrier(2)

    def fake(command: list[str]) -> str:
        if "pip" in command:
            made.append(Path(command[-1]).stem)
            both.wait(timeout=SECONDS)
        else:
            Path(command[-1]).mkdir(parents=True)
        return ""

    for name in ("one", "other"):
        (tmp_path / f"{name}.txt").touch()
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "made")
    monkeypatch.setattr(environments, "run_command", fake)
    right = contenders(FAKES)["right"]
    users = {"a": "one", "b": "harness", "c": "other", "d": "one"}
    chosen = {name: replace(right, environment=user) for name, user in users.items()}
    artifacts = Artifacts(MAIN_MODEL, folder)
    with closing(Pool(chosen, artifacts, timeout=SECONDS)) as pool:
        pool.prepare()
        pool.prepare()
    assert sorted(made) == ["one", "other"]


def test_artifacts_are_made_in_parallel_and_a_shared_one_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    both = threading.Barrier(2)

    def fake(*arguments: Any) -> None:
        *_, preparation, _, output = arguments
        made.append(preparation.name)
        if preparation.name != "onnx":
            both.wait(timeout=SECONDS)
        output.mkdir()

    monkeypatch.setattr(Artifacts, "_make", fake)
    monkeypatch.setattr("benchmarks.harness.processes.install", list)
    right = contenders(FAKES)["right"]
    users = {"a": "openvino", "b": "onnx-dynamic-int8", "c": "openvino"}
    chosen = {name: replace(right, needs=artifact) for name, artifact in users.items()}
    artifacts = Artifacts(MAIN_MODEL, folder)
    with closing(Pool(chosen, artifacts, timeout=SECONDS)) as pool:
        pool.prepare()
    assert sorted(made) == ["onnx", "onnx-dynamic-int8", "openvino"]


def test_an_existing_artifact_needs_no_environment(folder: Path) -> None:
    artifacts = Artifacts(MAIN_MODEL, folder)
    assert artifacts.environments("source") == []
    assert artifacts.environments("openvino") == [
        "sentence-transformers-onnx",  # for the ONNX graph, which is made first
        "openvino",
    ]
    (artifacts.folder / "openvino").mkdir()
    assert artifacts.environments("openvino") == []


def test_artifacts_are_looked_up_from_many_threads(
    folder: Path,
) -> None:
    # Python 3.11's ast.parse fails in a thread if another thread parses during garbage collection.
    artifacts = Artifacts(MAIN_MODEL, folder)
    usual = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(switch_threads)
    try:
        gc.set_threshold(50)
        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(4) as executor:
            found = list(executor.map(artifacts.environments, ["openvino"] * 100))
    finally:
        gc.callbacks.remove(switch_threads)
        gc.set_threshold(*usual[0])
        sys.setswitchinterval(usual[1])
    assert found == [["sentence-transformers-onnx", "openvino"]] * 100


def switch_threads(phase: str, details: dict[str, int]) -> None:
    del phase, details
    sum(range(50))


@pytest.mark.slow
def test_a_failed_preparation_is_reported(folder: Path) -> None:
    run = make_run(folder, "right")
    # A tokenizer alone is no model that can be exported. The preparation runs in this environment.
    other = Entry("other", FAKES / "fake.py", "harness", "embedrt-fp32")
    row, right = measured(replace(run, contenders={"other": other, **run.contenders}), CORPUS)
    assert row.error.startswith("not prepared: embedrt-fp32: ")
    assert not right.error


def test_contenders_alternate_and_a_different_one_begins_each_round() -> None:
    seen: list[str] = []

    def once(name: str) -> dict[str, float]:
        seen.append(name)
        return {"seconds": len(seen)}

    turns = take_turns(["a", "b", "c"], 3, lambda name: seen.append(name.upper()), once)
    assert "".join(seen) == "ABC" + "abc" + "bca" + "cab"
    assert turns.answers["a"] == [{"seconds": 4}, {"seconds": 9}, {"seconds": 11}]


def test_startup_is_reported_by_stage(folder: Path) -> None:
    rows = measured(make_run(folder, "slow"), Workload("startup", "startup", "exact1/16", 2))
    found = {row.measure: row.values for row in rows}
    assert list(found) == ["total", "python", "import", "load", "first vector"]
    for total, *stages in zip(*found.values(), strict=True):
        assert sum(stages) == pytest.approx(total)
        assert min(stages) > 0
    assert min(found["load"]) > 0.1  # the fake's pauses
    assert min(found["first vector"]) > 0.05
    assert (rows[0].texts, rows[0].tokens) == (1, 16)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
def test_memory_is_reported_by_block(folder: Path) -> None:
    rows = measured(make_run(folder, "right"), Workload("memory", "memory", "block", count=2))
    found = {row.measure: row.values for row in rows}
    assert list(found) == ["after import", "after load", "peak 1000 texts", "curve"]
    assert len(found["curve"]) == 2
    assert 1e6 < found["after import"][0] <= found["peak 1000 texts"][0] < 1e9
    assert rows[0].texts == 2000


def test_concurrent_calls_are_all_counted(folder: Path) -> None:
    work = Workload("concurrent/4", "concurrent", "sentences/10", 2, count=4)
    seconds, latency = measured(make_run(folder, "right"), work)
    assert (seconds.measure, len(seconds.values)) == ("seconds", 2)
    assert (latency.measure, len(latency.values)) == ("latency", 20)
    assert median(latency.values) <= median(seconds.values)


def test_pauses_are_not_counted(folder: Path) -> None:
    work = Workload("spaced/16", "spaced", "exact/16", 1, "latency")
    before = time.monotonic()
    (seconds,) = measured(make_run(folder, "right"), work)
    assert time.monotonic() - before > 2 * len(seconds.values) * PAUSE  # including the warm-up's
    assert len(seconds.values) == 20
    assert median(seconds.values) < PAUSE


def test_quality_of_the_right_answer(folder: Path) -> None:
    run = make_run(folder, "right", "wrong")
    cosine = Workload("quality/cosine", "cosine", "sentences/40")
    same = Workload("quality/same bytes", "same bytes", "mixed/40")
    values = {(row.contender, row.measure): row.values[0] for row in measured(run, cosine, same)}
    assert values["right", "mean"] == pytest.approx(1)
    assert values["right", "smallest"] == pytest.approx(1)
    assert values["wrong", "mean"] < 0.5
    assert values["right", "share"] == 1
    # A single text cannot be mixed up with another, texts in a batch can.
    assert values["wrong", "share"] == 0


def test_size_counts_the_files(folder: Path) -> None:
    bundle, installed = measured(make_run(folder, "right"), Workload("size", "size", ""))
    tokenizer = folder / MAIN_MODEL / "source" / "tokenizer.json"
    assert bundle.values[0] == tokenizer.stat().st_size
    assert installed.values[0] > 1e6


def test_measured_workloads_are_not_measured_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    run = make_run(folder, "right", "refuses")
    first = measured(run, CORPUS)
    loaded = loads(tmp_path / "log")
    assert loaded == ["right throughput"] * 2 + ["refuses throughput"]  # one is the reference
    assert measured(run, CORPUS) == first
    assert loads(tmp_path / "log") == loaded
    # Rows of another commit do not count.
    run.output.unlink()
    append_rows(run.output, [replace(row, commit="another") for row in first])
    assert len(measured(run, CORPUS)) == 2 * len(first)


def test_a_new_contender_is_measured_together_with_all_others(folder: Path) -> None:
    rows = measured(make_run(folder, "right"), CORPUS)
    rows = measured(make_run(folder, "right", "right too"), CORPUS)
    assert [row.contender for row in rows] == ["right", "right", "right too"]


@pytest.mark.slow
def test_a_killed_run_resumes(folder: Path, tmp_path: Path) -> None:
    script = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
from test_harness_run import *
run_model(make_run(Path({str(folder)!r}), "right", "hangs"), MAIN_MODEL, [CORPUS, LATENCY])
"""
    run = make_run(folder, "right")
    measured(run, CORPUS)
    kept = run.output.read_bytes()
    log = tmp_path / "log"
    environment = os.environ | {LOG: str(log)}
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment) as process:
        deadline = time.monotonic() + SECONDS
        while "hangs throughput" not in loads(log) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert "hangs throughput" in loads(log)
    assert_all_ended(log)
    assert run.output.read_bytes() == kept
    # The kill may also interrupt a write.
    with run.output.open("ab") as file:
        file.write(kept[: len(kept) // 2])
    rows = measured(run, CORPUS, LATENCY)
    assert run.output.read_bytes().startswith(kept)
    assert [row.workload for row in rows] == ["corpus", "latency/16"]
