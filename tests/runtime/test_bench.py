"""Tests of ``embedrt bench`` in real processes, on bundles of a few hundred bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from embedrt import Embedder
from embedrt.bench import measure as bench
from embedrt.bench import memory
from embedrt.bench.footprint import Memory, Startup, measure_process
from embedrt.bench.measure import Latency, Throughput, mixed_texts, text_of, thread_counts
from embedrt.cli import main
from embedrt.cli.bench import table
from embedrt.engine.cpu import available_threads
from embedrt.errors import BundleNotFoundError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the memory")


def run_bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "embedrt", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")


def only_numbers(content: dict[str, Any]) -> bool:
    return all(isinstance(value, int | float) and value > 0 for value in content.values())


@LINUX
def test_json_fields(tiny: Path) -> None:
    start = time.perf_counter()
    process = run_bench(tiny, "--quick", "--json")
    elapsed = time.perf_counter() - start
    assert (process.returncode, process.stderr) == (0, "")
    told = json.loads(process.stdout)
    assert set(told) == {
        "name", "precision", "processor", "threads", "versions",
        "latency", "throughput", "startup", "memory", "texts_in_memory",
    }  # fmt: skip
    (latency,) = told["latency"]  # the bundle's maximum is 8 tokens
    assert (latency["tokens"], latency["calls"]) == (8, 20)
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] < elapsed
    assert [row["threads"] for row in told["throughput"]] == thread_counts(available_threads())
    assert all(only_numbers(row) for row in told["throughput"])
    assert set(told["startup"]) == {"python", "importing", "loading", "first_vector"}
    assert only_numbers(told["startup"])
    assert sum(told["startup"].values()) < elapsed
    sizes = told["memory"]
    assert set(sizes) == {"after_import", "after_load", "after_texts", "peak"}
    assert 5e6 < sizes["after_import"] <= sizes["after_load"] <= sizes["peak"] < 1e9
    assert set(told["versions"]) == {"embedrt", "onnxruntime", "numpy"}


def test_table(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    assert main(["bench", str(tiny), "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny, fp32"
    for title in ("one text of", "64 texts of", "start to first vector", "memory of a process"):
        assert any(line.startswith(title) for line in lines), title


def test_table_of_known_figures() -> None:
    findings = bench.Findings(
        name="a model", precision="int8", processor="A Processor", threads=2,
        versions={"embedrt": "1"},
        latency=(Latency(16, 100, 0.001234, 0.002, 0.0125),),
        throughput=(Throughput(1, 100, 1000, 1234.5, 12345),),
        startup=Startup(0.01, 0.2, 0.03, 0.004),
        memory=Memory(50_000_000, None, 60_000_000, 70_500_000),
        texts_in_memory=1000,
    )  # fmt: skip
    assert list(table(findings)) == [
        "a model, int8",
        "on A Processor, 2 threads; embedrt 1",
        "",
        "one text of               p50        p95        p99",
        "    16 tokens         1.23 ms    2.00 ms   12.50 ms",
        "",
        "100 texts of 10 tokens on average",
        "     1 thread          1,234 texts/s      12,345 tokens/s",
        "",
        "start to first vector      0.244 s",
        "  python                   0.010 s",
        "  import embedrt           0.200 s",
        "  load the bundle          0.030 s",
        "  first vector             0.004 s",
        "",
        "memory of a process",
        "  after import              50.0 MB",
        "  after load            not reported by this system",
        "  after 1,000 texts         60.0 MB",
        "  peak                      70.5 MB",
    ]


def test_texts_have_the_requested_tokens(embedder: Embedder) -> None:
    for tokens in (8, 64, 256):
        counts = {embedder.count_tokens(text_of(embedder, tokens, number)) for number in range(9)}
        assert max(counts) == tokens
        assert min(counts) >= tokens - 3  # the next word may have more tokens than are left


def test_no_two_texts_are_equal(embedder: Embedder) -> None:
    texts = mixed_texts(embedder, 300)
    assert len(set(texts)) == 300
    counts = embedder.count_tokens(texts)
    assert counts.min() <= 4
    assert counts.max() == 256


def test_a_text_too_short_for_any_word_is_empty(embedder: Embedder) -> None:
    assert text_of(embedder, 1, 0) == ""


@pytest.mark.parametrize(
    ("available", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_thread_counts(available: int, counts: list[int]) -> None:
    assert thread_counts(available) == counts


def test_a_failed_process_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match=r"ended with status 1: .*BundleNotFoundError"):
        measure_process(tmp_path / "nowhere")


def test_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BundleNotFoundError):
        bench.measure(tmp_path / "nowhere")
    assert main(["bench", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("embedrt: ")


@LINUX
def test_memory_is_that_of_this_process() -> None:
    before = memory.resident_bytes()
    content = b"\x01" * 200_000_000
    after = memory.resident_bytes()
    peak = memory.peak_bytes()
    assert before is not None
    assert after is not None
    assert peak is not None
    assert 0.985 < (after - before) / len(content) < 1.015
    assert peak >= after * 0.99


def test_memory_of_other_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "nowhere")
    assert memory.resident_bytes() is None
    (tmp_path / "status").write_text("Name:\tpython\n", encoding="utf-8")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert memory.peak_bytes() is None


def test_other_commands_do_not_import_it() -> None:
    code = "import sys, embedrt.cli; sys.exit('embedrt.bench.measure' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
