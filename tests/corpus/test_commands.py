"""Tests of `embedrt embed` and `embedrt corpus verify` as processes: output, interrupts, kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
from embedrt.cli import main
from embedrt.corpus import verify_output
from embedrt.corpus.output import TEMPORARY
from waiting import SECONDS, wait_until

ROWS_PER_PART = 25
FINISHING = "finishing the parts in flight; interrupt again to end at once"


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a source, set as the current directory."""
    write_parquet(tmp_path / "source")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def embedding(bundle: Path, hold: Hold, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start `embedrt embed source output`; kill the process on exit if it still runs.

    Its messages go to the file `errors`, which can be read while it runs.
    """
    arguments = ["embed", "source", "output", "--bundle", str(bundle)]
    arguments += ["--rows-per-part", str(ROWS_PER_PART), *options]
    with (
        Path("errors").open("wb") as errors,
        subprocess.Popen(
            **held_command(hold, *arguments),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            encoding="utf-8",
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for_parts(output: Path, count: int) -> None:
    wait_until(lambda: len(parts_in(output)) >= count)


class TestEmbed:
    def test_a_run_and_a_second_run(
        self, corpus: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (corpus / "source" / "README.md").touch()
        command = ["embed", "source", "output", "--bundle", str(tiny), "--report", "report.json"]
        assert main(command) == 0
        out, err = capsys.readouterr()
        digest = digest_of_source(corpus / "source", tiny)
        assert out.startswith("750 of 750 rows in output, 750 of them now, ")
        assert out.endswith(f"nulls 75, truncated 0, digest {digest}\n")
        assert err == "embedrt: skipped README.md, which is not a data file\n"
        report = json.loads((corpus / "report.json").read_text(encoding="utf-8"))
        assert report["digest"] == digest
        assert main(command) == 0
        assert "750 of 750 rows in output, 0 of them now" in capsys.readouterr().out

    @pytest.mark.usefixtures("corpus")
    def test_options(self, tiny: Path) -> None:
        pq.write_table(pa.table({"a": ["w1"], "b": ["w2"], "c": [1]}), "x.parquet")
        line = (
            "embed x.parquet output --text a --text b --join - --columns c --output-column v "
            "--normalize --precision float16 --truncate-dim 3 --threads 1 --merge 1"
        )
        assert main([*line.split(), "--bundle", str(tiny)]) == 0
        table = pq.read_table("output")
        assert table.column_names == ["c", "v"]
        assert table.schema.field("v").type == pa.list_(pa.float16(), 3)

    @pytest.mark.usefixtures("corpus")
    def test_what_is_wrong(self, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["embed", "other", "output", "--bundle", str(tiny)]) == 1
        assert capsys.readouterr().err == "embedrt: other: there is no such file or folder\n"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--workers", "2"], "--workers 2 requires --engine ray"),
            (["--address", "auto"], "--address auto requires --engine ray"),
            (["--cores-per-worker", "2"], "--cores-per-worker 2 requires --engine ray"),
            (["--engine", "ray", "--threads", "2"], "use --cores-per-worker"),
        ],
    )
    @pytest.mark.usefixtures("corpus")
    def test_options_of_the_other_engine(
        self, tiny: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
    ) -> None:
        assert main(["embed", "source", "output", "--bundle", str(tiny), *options]) == 1
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--threads", "0"], "threads=0; expected at least 1"),
            (["--report", "nowhere/report.json"], "nowhere/report.json"),
            (["--report", "source"], "Is a directory: 'source'"),
        ],
    )
    def test_what_is_wrong_is_known_before_work(
        self,
        corpus: Path,
        tiny: Path,
        capsys: pytest.CaptureFixture[str],
        options: list[str],
        message: str,
    ) -> None:
        assert main(["embed", "source", "output", "--bundle", str(tiny), *options]) == 1
        assert message in capsys.readouterr().err
        assert names(corpus) == ["source"]

    def test_without_pyarrow(self) -> None:
        code = (
            "import sys, importlib.util as util; util.find_spec = lambda name: None\n"
            "from embedrt.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", code, "embed", "source", "output", "--bundle", "bundle"]
        found = subprocess.run(
            command, capture_output=True, text=True, check=False, encoding="utf-8"
        )
        assert found.returncode == 1
        assert found.stderr == "embedrt: corpora need pyarrow: pip install 'embedrt[corpus]'\n"

    def test_two_kinds_of_processors_are_reported(
        self,
        corpus: Path,
        tiny: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        command = ["embed", "source", "output", "--bundle", str(tiny)]
        assert main(command) == 0
        next((corpus / "output").glob("0*")).unlink()
        monkeypatch.setattr("embedrt.corpus.part.processor_name", lambda: "another")
        capsys.readouterr()
        assert main(command) == 0
        assert (
            "another: vectors have the same bytes on the same kind of processor"
            in capsys.readouterr().err
        )

    def test_skipped_rows_give_exit_status_1(
        self, corpus: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (corpus / "source" / "part-1.parquet").write_bytes(b"x")
        command = ["embed", "source", "output", "--bundle", str(tiny), "--on-error", "skip"]
        assert main(command) == 1
        out, err = capsys.readouterr()
        assert out.startswith("500 of 500 rows in output")
        assert "embedrt: not embedded: part-1.parquet cannot be read as parquet" in err
        assert err.endswith("embedrt: 1 not embedded; run the same command again to continue\n")

    @pytest.mark.usefixtures("corpus")
    def test_progress_in_a_log(
        self,
        tiny: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr("embedrt.corpus.watch.LINE_SECONDS", 0)
        assert main(["embed", "source", "output", "--bundle", str(tiny)]) == 0
        first, second, third = capsys.readouterr().err.splitlines()
        assert "250 of 750 rows, " in first
        assert "rows/s, " in second
        assert "tokens/s, 0:00:00 left" in third

    def test_verify(self, corpus: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["embed", "source", "output", "--bundle", str(tiny)]) == 0
        capsys.readouterr()
        assert main(["corpus", "verify", "output", "--source", "source", "--sample", "7"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("rows: 750 in 3 parts, 75 without a text\ndigest: ")
        assert out.endswith(
            "source: unchanged since it was embedded\nrecomputed: 7 rows, the same bytes\n"
        )
        (corpus / "output" / "_SUCCESS").unlink()
        assert main(["corpus", "verify", "output"]) == 1
        assert capsys.readouterr().err == (
            "embedrt: output: it is not complete: run the command that made it again\n"
        )
        assert main(["corpus", "prove", "output"]) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
class TestInterrupts:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_parts_in_flight_are_finished(
        self, corpus: Path, tiny: Path, number: signal.Signals
    ) -> None:
        write_parquet(corpus / "source", files=40)
        hold = hold_at(corpus, parts=3)
        with embedding(tiny, hold) as process:
            wait_for_parts(hold.output, 1)
            process.send_signal(number)
            wait_until(lambda: FINISHING in Path("errors").read_text(encoding="utf-8"))
            hold.gate.unlink()
            out, _ = process.communicate(timeout=SECONDS)
        err = Path("errors").read_text(encoding="utf-8")
        assert process.returncode == 128 + number
        assert err.count(FINISHING) == 1
        assert "not complete; run the same command again to continue" in err
        rows = pq.read_table(corpus / "output").num_rows
        assert 0 < rows < 10_000
        assert f"{rows:,} of 10,000 rows in output, {rows:,} of them now" in out
        assert not [name for name in names(corpus / "output") if TEMPORARY.fullmatch(name)]
        with embedding(tiny, hold) as process:
            out, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        assert digest_of_source(corpus / "source", tiny) in out

    def test_a_second_interrupt_ends_at_once(self, corpus: Path, minilm: Path) -> None:
        """A second interrupt ends the process during a part that would take minutes."""
        text = pa.array([f"{row} " + "a long text of many words " * 50 for row in range(20_000)])
        pq.write_table(pa.table({"text": text}), corpus / "source" / "a.parquet")
        hold = hold_at(corpus, parts=1)  # after that part, so never
        options = ["--rows-per-part", "20000", "--columns", "text"]
        with embedding(minilm, hold, *options) as process:
            wait_until(hold.begun.exists)
            process.send_signal(signal.SIGINT)
            wait_until(lambda: FINISHING in Path("errors").read_text(encoding="utf-8"))
            assert process.poll() is None
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=SECONDS)
        assert process.returncode == 130
        assert "Traceback" not in Path("errors").read_text(encoding="utf-8")
        assert time.monotonic() - begin < 20


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
class TestKills:
    @pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.slow)])
    def test_killed_again_and_again(self, corpus: Path, tiny: Path, kills: int) -> None:
        """Parts survive SIGKILL at random moments, are not made again, and the output completes.

        The moments are counted in parts, because a start takes any time on a busy machine, and
        there are a few more parts at most, because so does this process. Every third kill is one
        of the start.
        """
        write_parquet(corpus / "source", files=2 * kills)
        output = corpus / "output"
        command = ["embed", str(corpus / "source"), str(output), "--bundle", str(tiny)]
        forked("--help").join()  # starts the fork server
        generator, kept, ended = random.Random(0), dict[str, int](), list[int | None]()
        for attempt in range(kills):
            hold = hold_at(corpus, parts=len(kept) + 8)
            process = forked(*command, "--rows-per-part", str(ROWS_PER_PART), hold=hold)
            if attempt % 3:
                wait_for_parts(output, len(kept) + generator.randint(1, 4))
            time.sleep(generator.uniform(0, 0.05 if attempt % 3 else 0.3))
            process.kill()
            process.join(SECONDS)
            ended.append(process.exitcode)
            found = parts_in(output)
            assert kept.items() <= found.items()  # no part is lost or made again
            for name in found:
                pq.read_table(output / name)  # raises if the file is incomplete
            kept = found
        digest = digest_of_source(corpus / "source", tiny)
        assert ended == [-signal.SIGKILL] * kills
        assert kept
        process = forked(*command, "--rows-per-part", str(ROWS_PER_PART))
        process.join(SECONDS)
        assert process.exitcode == 0
        assert kept.items() <= parts_in(output).items()
        assert not [name for name in names(output) if name.startswith(".")]
        assert verify_output(output).digest == digest
