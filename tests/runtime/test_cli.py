"""Tests of the command line, most of them in separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.cli import main
from embedrt.cli.lines import read_texts
from tiny_bundle import WORDS, make_tiny

LINES = ["w1", "w2 w2", "", "w3 w1\x0cw9"]
VECTORS = [[0, 1], [0, 0, 2], [], [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]]
EXPECTED = np.array([row + [0] * (WORDS - len(row)) for row in VECTORS], np.float32)


def embedrt(*arguments: str | Path, given: str | bytes = "") -> subprocess.CompletedProcess[bytes]:
    """Run a command as a shell would."""
    return subprocess.run(
        [sys.executable, "-m", "embedrt", *map(str, arguments)],
        input=given.encode() if isinstance(given, str) else given,
        capture_output=True,
        check=False,
    )


def succeed(*arguments: str | Path, given: str | bytes = "") -> str:
    process = embedrt(*arguments, given=given)
    assert process.returncode == 0, process.stderr.decode()
    assert process.stderr == b""
    return process.stdout.decode()


def fail(*arguments: str | Path, given: str | bytes = "", status: int = 1) -> str:
    process = embedrt(*arguments, given=given)
    assert process.returncode == status
    message = process.stderr.decode()
    assert "Traceback" not in message
    return message


def in_process(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command in this process, which is faster and counts for coverage; return its stdout."""
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def failing_in_process(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([*map(str, arguments)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("embedrt: ")
    assert message.count("\n") == 1
    return message


def parse(lines: str) -> list[Any]:
    return [json.loads(line) for line in lines.splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one text per line."""
    path = tmp_path / "texts.txt"
    path.write_bytes("\n".join(LINES).encode() + b"\n")
    return path


class TestLines:
    def test_a_line_ends_at_a_newline_and_nowhere_else(self, tmp_path: Path) -> None:
        file = tmp_path / "texts.txt"
        file.write_bytes("a\r\n b \n\n\x0c\u2028\x85\r\r\nlast".encode())
        expected = ["a", " b ", "", "\x0c\u2028\x85\r", "last"]
        assert list(read_texts(str(file), None)) == expected


class TestEncode:
    def test_file_to_stdout(self, tiny: Path, file: Path) -> None:
        assert parse(succeed("encode", tiny, file)) == EXPECTED.tolist()

    @pytest.mark.parametrize("arguments", [[], ["-"]])
    def test_stdin(self, tiny: Path, arguments: list[str]) -> None:
        found = succeed("encode", tiny, *arguments, given="w1\r\nw2 w2\r\n\nw3 w1\x0cw9")
        assert parse(found) == EXPECTED.tolist()

    def test_npy(self, tiny: Path, file: Path, tmp_path: Path) -> None:
        assert succeed("encode", tiny, file, "--output", tmp_path / "x.npy") == ""
        found = np.load(tmp_path / "x.npy")
        assert found.dtype == np.float32
        assert (found == EXPECTED).all()
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert (mapped == EXPECTED).all()

    def test_jsonl(
        self, tiny: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        in_process(capsys, "encode", tiny, file, "--output", tmp_path / "x.jsonl")
        assert parse((tmp_path / "x.jsonl").read_text(encoding="utf-8")) == EXPECTED.tolist()

    def test_digits_round_trip_to_the_same_floats(self, minilm: Path, embedder: Embedder) -> None:
        text = succeed("encode", minilm, given="How many people live in London?\n")
        assert len(text) < 14 * embedder.dimension  # as float64, twice as many digits
        (line,) = parse(text)
        vector = embedder.encode("How many people live in London?")
        assert np.array(line, np.float32).tobytes() == vector.tobytes()

    @pytest.mark.parametrize("precision", ["float32", "float16", "binary", "ubinary"])
    @pytest.mark.parametrize("suffix", ["npy", "jsonl"])
    def test_options(
        self,
        tiny: Path,
        file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        precision: Any,
        suffix: str,
    ) -> None:
        output = tmp_path / f"x.{suffix}"
        in_process(
            capsys, "encode", tiny, file, "--output", output, "--precision", precision,
            "--normalize", "--truncate-dim", "9", "--prompt", "w4 ", "--threads", "1",
        )  # fmt: skip
        with Embedder.load(tiny) as embedder:
            expected = embedder.encode(
                LINES, precision=precision, normalize_embeddings=True, truncate_dim=9, prompt="w4 "
            )
        if suffix == "npy":
            found = np.load(output)
            assert found.dtype == expected.dtype
        else:
            found = np.array(parse(output.read_text(encoding="utf-8")), expected.dtype)
        assert found.tobytes() == expected.tobytes()

    def test_prompt_name(
        self, tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle = make_tiny(tmp_path / "prompted", prompts={"query": "w7 "})
        output = tmp_path / "x.npy"
        in_process(capsys, "encode", bundle, file, "--prompt-name", "query", "--output", output)
        assert (np.load(output)[:, 7] == 1).all()

    def test_prompt_name_of_an_empty_prompt(
        self, tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        prompts = {"none": "", "some": "w7 "}
        bundle = make_tiny(tmp_path / "prompted", prompts=prompts, default_prompt_name="some")
        for name in ("none", "query"):
            found = in_process(capsys, "encode", bundle, file, "--prompt-name", name)
            assert np.array_equal(parse(found), EXPECTED)

    def test_no_input_gives_no_output(self, tiny: Path, tmp_path: Path) -> None:
        assert succeed("encode", tiny) == ""
        succeed("encode", tiny, "--output", tmp_path / "x.npy", "--truncate-dim", "3")
        assert np.load(tmp_path / "x.npy").shape == (0, 3)

    def test_home_in_every_path(
        self, tiny: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A shell does not expand the ``~`` of ``--output=~/x``."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tiny)
        assert main(["encode", "~/tiny", f"~/{file.name}", "--output=~/x.npy"]) == 0
        assert (np.load(tmp_path / "x.npy") == EXPECTED).all()

    def test_more_texts_than_a_window(self, tiny: Path, tmp_path: Path) -> None:
        texts = "".join(f"w{number % WORDS}\n" for number in range(5000))
        succeed("encode", tiny, "--output", tmp_path / "x.npy", given=texts)
        assert (np.load(tmp_path / "x.npy").argmax(axis=1) == np.arange(5000) % WORDS).all()

    def test_field(self, tiny: Path) -> None:
        lines = '{"text": "w1", "id": 1}\n{"text": "w2\\nw2"}\n{"text": "\\ud83d"}\n'
        found = parse(succeed("encode", tiny, "--field", "text", given=lines))
        assert [np.argmax(row) for row in found] == [1, 2, 0]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("nonsense", "is not JSON"),
            ("[" * 100_000, "is not JSON"),
            ('{"other": "w1"}', "has no field 'text'"),
            ('["w1"]', "has no field 'text'"),
            ("3", "has no field 'text'"),
            ("null", "has no field 'text'"),
            ('{"text": 3}', "field 'text' is int; expected a string"),
            ('{"text": null}', "field 'text' is NoneType; expected a string"),
        ],
    )
    def test_bad_field_is_named(
        self,
        tiny: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        line: str,
        message: str,
    ) -> None:
        file = tmp_path / "texts.jsonl"
        file.write_text(f'{{"text": "w1"}}\n{line}\n{{"text": "w1"}}\n', encoding="utf-8")
        told = failing_in_process(capsys, "encode", tiny, file, "--field", "text")
        assert f"{file}, line 2" in told
        assert message in told

    def test_bad_bytes_are_named(self, tiny: Path) -> None:
        message = fail("encode", tiny, given=b"w1\nw2\n\xff\n")
        assert message.startswith("embedrt: stdin, line 3 is not UTF-8")

    def test_a_failure_leaves_the_old_file(
        self, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file, output = tmp_path / "texts.txt", tmp_path / "x.jsonl"
        file.write_bytes(b"w1\n" * 10_000 + b"\xff\n")
        output.write_text("precious", encoding="utf-8")
        before = {path.name for path in tmp_path.iterdir()}
        failing_in_process(capsys, "encode", tiny, file, "--output", output)
        assert output.read_text(encoding="utf-8") == "precious"
        assert {path.name for path in tmp_path.iterdir()} == before

    def test_output_replaces_a_file(self, tiny: Path, file: Path, tmp_path: Path) -> None:
        output = tmp_path / "x.npy"
        output.write_bytes(b"old" * 10_000)
        succeed("encode", tiny, file, "--output", output)
        assert np.load(output).shape == EXPECTED.shape
        assert output.stat().st_size == 128 + EXPECTED.nbytes

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--output", "x.csv"], "must end in .npy or .jsonl"),
            (["--truncate-dim", "11"], "truncate_dim=11; expected 1 to 10"),
            (["--threads", "0"], "threads=0; expected at least 1"),
            (["--prompt-name", "title"], "this model has none"),
            (["--overlong", "error", "--prompt", "w1 " * 9], "Split it"),
            (["--output", "nowhere/x.npy"], "nowhere"),
        ],
    )
    def test_bad_arguments(
        self,
        tiny: Path,
        file: Path,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        message: str,
    ) -> None:
        assert message in failing_in_process(capsys, "encode", tiny, file, *arguments)

    def test_missing_file(
        self, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        missing = tmp_path / "nowhere.txt"
        assert str(missing) in failing_in_process(capsys, "encode", tiny, missing)

    def test_ranges_need_all_texts(self, tiny: Path) -> None:
        assert "invalid choice: 'int8'" in fail("encode", tiny, "--precision", "int8", status=2)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
    def test_progress_is_shown_on_a_terminal(self, tiny: Path) -> None:
        import pty
        import termios

        person, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (24, 80))
        command = [sys.executable, "-m", "embedrt", "encode", str(tiny)]
        process = subprocess.run(
            command, input=b"w1\n", stdout=subprocess.PIPE, stderr=terminal, check=True
        )
        os.close(terminal)
        shown = os.read(person, 4096)
        os.close(person)
        assert b"text" in shown
        assert len(process.stdout.splitlines()) == 1


class TestSearch:
    def test_best_first(self, tiny: Path, file: Path) -> None:
        found = succeed("search", tiny, file, "--query", "w2 w1", "--top-k", "2")
        assert found == "2.0000\tw2 w2\n1.0000\tw1\n"

    def test_model_cards_example(
        self, minilm: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        file = tmp_path / "documents.txt"
        file.write_text(
            "London is known for its financial district\nAround 9 Million people live in London\n",
            encoding="utf-8",
        )
        query = "How many people live in London?"
        lines = in_process(capsys, "search", minilm, file, "--query", query).splitlines()
        assert [line.partition("\t")[2] for line in lines] == [
            "Around 9 Million people live in London",
            "London is known for its financial district",
        ]
        assert float(lines[0].partition("\t")[0]) == pytest.approx(0.9, abs=0.05)

    def test_prompts_of_queries_and_documents(
        self, tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        prompts = {"query": "w1 ", "passage": "w3 w3 ", "title": "w9 w9 "}
        bundle = make_tiny(tmp_path / "prompted", prompts=prompts, default_prompt_name="title")
        found = in_process(capsys, "search", bundle, file, "--query", "w3", "--top-k", "1")
        assert found == "4.0000\tw3 w1\x0cw9\n"  # w1 and w3, with w1 and three times w3

    def test_field_with_an_unpaired_surrogate(self, tiny: Path) -> None:
        found = succeed(
            "search", tiny, "--query", "w1", "--field", "t", given='{"t": "w1 \\ud83d"}\n'
        )
        assert found == "1.0000\tw1 \ufffd\n"

    def test_no_documents(self, tiny: Path) -> None:
        assert succeed("search", tiny, "--query", "w1") == ""

    def test_bad_top_k(self, tiny: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        told = failing_in_process(capsys, "search", tiny, file, "--query", "w1", "--top-k", "0")
        assert "top_k=0" in told

    def test_query_is_required(self, tiny: Path) -> None:
        assert "--query" in fail("search", tiny, status=2)


class TestInfo:
    def test_readable_output(self, minilm: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = in_process(capsys, "info", minilm)
        for fact in ("sentence-transformers/all-MiniLM-L6-v2", "384", "256", "mean", "apache-2.0"):
            assert fact in text

    def test_of_a_bundle_with_everything(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        prompts = {"query": "q: ", "document": ""}
        bundle = make_tiny(
            tmp_path / "full", prompts=prompts, default_prompt_name="query", agreement=None
        )
        text = in_process(capsys, "info", bundle)
        shown = "query='q: ' (the default), document=''\n"
        for fact in (shown, "version 2, embedding", "mean + max", "not measured", "someone/tiny"):
            assert fact in text

    def test_json_is_the_manifest(self, minilm: Path) -> None:
        text = succeed("info", minilm, "--json")
        assert json.loads(text) == json.loads(
            (minilm / "manifest.json").read_text(encoding="utf-8")
        )

    def test_no_bundle(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "is not a bundle" in failing_in_process(capsys, "info", tmp_path)


class TestVerify:
    def test_intact_bundle(self, minilm: Path) -> None:
        first, second = succeed("verify", minilm).splitlines()
        assert first == "files: 5 as the manifest says, by sha256"
        assert "largest difference" in second

    def test_one_altered_byte(self, tiny: Path) -> None:
        content = (tiny / "README.md").read_bytes()
        (tiny / "README.md").write_bytes(content[:-1] + b"!")
        message = fail("verify", tiny)
        assert message.startswith(f"embedrt: {tiny / 'README.md'} has sha256 ")

    def test_vectors_that_differ_from_the_original(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        probes = json.dumps([{"text": "w1", "embedding": [0.5] * WORDS}])
        bundle = make_tiny(tmp_path / "wrong", probes=probes)
        assert main(["verify", str(bundle)]) == 1
        assert "differ by 1.0e+00" in capsys.readouterr().err


class TestExport:
    @pytest.mark.skipif(
        find_spec("torch") is not None or "embedrt" not in metadata.packages_distributions(),
        reason="needs the installed package without its extra",
    )
    def test_names_the_missing_extra(self, tmp_path: Path) -> None:
        message = fail("export", "all-MiniLM-L6-v2", "--output", tmp_path / "new")
        assert "pip install 'embedrt[export]'" in message
        assert "torch" in message
        assert not (tmp_path / "new").exists()


class TestUsage:
    def test_help(self) -> None:
        text = succeed("--help")
        for command in ("encode", "search", "info", "verify", "upgrade", "bench", "export"):
            assert command in text

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["--version"])
        assert caught.value.code == 0
        assert capsys.readouterr().out == f"embedrt {metadata.version('embedrt')}\n"

    @pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["encode"], ["info", "a", "b"]])
    def test_wrong_usage(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "usage: embedrt" in capsys.readouterr().err

    @pytest.mark.skipif(sys.platform == "win32", reason="closes streams with a shell")
    @pytest.mark.parametrize(
        ("command", "closed", "status", "told"),
        [
            ("encode {bundle}", "<&-", 1, "embedrt: stdin or stdout is closed\n"),
            ("encode {bundle} {file}", ">&-", 1, "embedrt: stdin or stdout is closed\n"),
            ("search {bundle} {file} --query w1", ">&-", 1, "embedrt: stdin or stdout is closed\n"),
            ("info {bundle}", ">&-", 1, "embedrt: stdin or stdout is closed\n"),
            ("info {bundle}", "<&- >&- 2>&-", 1, ""),
            ("info nowhere", "2>&-", 1, ""),
            ("encode {bundle} {file} --output {file}.npy", "<&- >&- 2>&-", 0, ""),
        ],
    )
    def test_closed_streams(
        self, tiny: Path, file: Path, command: str, closed: str, status: int, told: str
    ) -> None:
        line = command.format(bundle=tiny, file=file)
        found = subprocess.run(
            ["sh", "-c", f'"$0" -W error -m embedrt {line} {closed}', sys.executable],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert (found.returncode, found.stdout, found.stderr) == (status, "", told)

    def test_interrupted(
        self, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupt(*_arguments: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("embedrt.cli.info.Bundle.open", interrupt)
        assert main(["info", str(tiny)]) == 130
        assert capsys.readouterr().err == "embedrt: interrupted\n"
