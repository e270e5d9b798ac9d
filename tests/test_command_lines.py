"""Tests that every command line in the documents and in the help works."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmark_rows import run_rows
from benchmarks.harness.rows import append_rows
from benchmarks.models import MAX_TOKENS
from embedrt.cli import COMMANDS, main, parse
from embedrt.errors import EmbedrtError
from tiny_bundle import make_tiny_reranker

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    file
    for folder in (
        ".",
        "models",
        "benchmarks",
        "tests",
        "tests/emulation",
        "runtime/embedrt/corpus",
        "runtime/embedrt/serve",
        "runtime/kernels",
    )
    for file in sorted((ROOT / folder).glob("*.md"))
]

# Fragments in sentences that are not complete command lines.
MENTIONS = {
    "embedrt encode",
    "embedrt encode --output",
    "embedrt export",
    "embedrt export --precision int8",
    "embedrt info",
    "embedrt verify",
    "embedrt bench",
    "embedrt serve",
    "embedrt serve --help",
    "embedrt upgrade",
    "embedrt verify --against",
    "embedrt verify --against MODEL",
    "embedrt embed",
    "embedrt embed SOURCE OUTPUT",
    "embedrt embed --engine ray",
    "embedrt corpus verify",
    "embedrt compare",
    "embedrt pull",
    "embedrt push",
    "embedrt rerank",
}

# These commands are only parsed here: exports need minutes and weights from the hub (tests/export),
# measurements a minute (tests/runtime/test_bench.py), servers do not end (tests/serve), push and
# pull need a hub (tests/runtime/test_hub.py), comparisons the original
# (tests/export/test_migration.py), and corpora on S3 and Ray a cluster (tests/cluster).
ONLY_PARSED = ("export", "bench", "serve", "push", "pull", "compare")
ELSEWHERE = "s3://"

VERSION_1 = ROOT / "tests" / "data" / "version_1" / "fp32"

# Not run: `pip` needs the network, `tests/emulation/run` needs root and an emulator.


def shown(*programs: str) -> list[str]:
    """Return the command lines in the documents that start one of these programs."""
    lines: list[str] = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for block in re.findall(r"(?sm)^```(?:console|dockerfile)\n(.*?)^```", text):
            typed = re.findall(r"(?m)^(?:\$|RUN) (.*)$", block)
            lines += [part for line in typed for part in line.split(" && ")]
        outside = re.sub(r"(?sm)^```.*?^```", "", text)
        lines += re.findall(r"(?<!`)`([^`]+)`(?!`)", outside)
    whole = {shlex.join(shlex.split(line, comments=True)) for line in lines}
    return sorted(line for line in whole if line.startswith(tuple(f"{name} " for name in programs)))


EMBEDRT = [line for line in shown("embedrt") if line not in MENTIONS]


def test_the_documents_have_command_lines() -> None:
    assert "embedrt search BUNDLE --query TEXT FILE" in EMBEDRT
    assert "embedrt export all-MiniLM-L6-v2 --output /bundle" in EMBEDRT
    assert len(EMBEDRT) > 10


@pytest.mark.parametrize("line", EMBEDRT)
def test_line_of_a_document(
    line: str, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = VERSION_1 if line.startswith("embedrt upgrade") else minilm
    if line.startswith("embedrt rerank"):
        bundle = make_tiny_reranker(tmp_path / "reranker")
    for name in ("BUNDLE", "bundle", "all-MiniLM-L6-v2-fp32"):
        (tmp_path / name).symlink_to(bundle)
    for name in ("FILE", "texts.txt"):
        (tmp_path / name).write_text("a text\nanother\n", encoding="utf-8")
    arguments = shlex.split(line.replace(" /bundle", " bundle"))[1:]
    options = parse(arguments)
    if options.command in ("embed", "corpus"):
        write_abstracts(tmp_path / "abstracts")
        if options.command == "corpus":
            main(["embed", "abstracts", "vectors", "--bundle", "BUNDLE", "--text", "abstract"])
    if options.command not in ONLY_PARSED and ELSEWHERE not in line:
        before = set(tmp_path.iterdir())
        assert main(arguments) == 0
        made = {file.name for file in set(tmp_path.iterdir()) - before}
        expected = {"encode": {"vectors.npy"}, "upgrade": {"OUTPUT"}, "embed": {"vectors"}}
        assert made == expected.get(options.command, set())


def write_abstracts(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"abstract": "a text"}\n', encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("export ./nothing --output bundle", "embedrt_export"),
        ("pull someone/nothing", "embedrt.hub"),
        ("embed nothing vectors --bundle BUNDLE --text abstract", "embedrt.corpus"),
    ],
)
def test_a_command_leaves_the_loggers_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, name: str
) -> None:
    seen: list[tuple[int, int]] = []
    logger = logging.getLogger(name)
    before = logger.level, list(logger.handlers)

    def fail(*_: object, **__: object) -> None:
        seen.append((logger.level, len(logger.handlers)))
        raise EmbedrtError("failed")

    for function in (
        "embedrt_export.export_model",
        "embedrt.hub.pull.pull",
        "embedrt.corpus.embed",
    ):
        monkeypatch.setattr(function, fail)
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 1
    assert seen == [(logging.INFO, len(before[1]) + 1)]
    assert (logger.level, logger.handlers) == before


@pytest.mark.parametrize("command", [module.__name__.rpartition(".")[2] for module in COMMANDS])
def test_usage_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The usage line parses, with all optional arguments and with none."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    usage = " ".join(capsys.readouterr().out.partition("\n\n")[0].split())
    assert usage.startswith(f"usage: embedrt {command} [-h] ")
    line = usage.removeprefix("usage: embedrt ").replace("[-h] ", "")
    line = re.sub(r"\{(\w+)[^}]*\}", r"\1", line)  # the first of several choices
    line = re.sub(r"\b(N|X\.npy)\b(\|\S+?(?=\]))?", "1", line)
    words = line.replace("[", " ").replace("]", " ").split()
    assert vars(parse(words))["command"] == command
    assert vars(parse([words[0], words[-1], *words[1:-1]]))["command"] == command
    assert vars(parse(re.sub(r" ?\[.*?\]", "", line).split()))["command"] == command


# Modules that `python -m` runs for a package.
MAIN = {name: f"{name}.__main__" for name in ("benchmarks.report", "benchmarks.serving")}


def test_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` would install the contenders' environments, so its measurements are replaced."""
    monkeypatch.chdir(tmp_path)
    append_rows(tmp_path / "rows.jsonl", run_rows())
    monkeypatch.setattr("benchmarks.report.__main__.FOLDER", tmp_path / "report")
    measured: list[str] = []
    monkeypatch.setattr("benchmarks.run.run_model", lambda _, model, __: measured.append(model))
    for name in ("run", "report"):
        for line in shown(f".venv/bin/python -m benchmarks.{name}"):
            _, _, module, *arguments = line.split()
            import_module(MAIN.get(module, module)).main(arguments)
    assert set(measured) == set(MAX_TOKENS)
    assert (tmp_path / "report" / "report.md").is_file()


MEASURING: dict[str, set[str]] = {}  # the options and the placeholders of each module
for line in shown(".venv/bin/python -m", ".venv-mteb/bin/python -m", "python -m"):
    module, *words = line.partition(" -m ")[2].split()
    if module.startswith("benchmarks."):
        named = re.findall(r"--[a-z]+|\b[A-Z][A-Z0-9_]{2,}\b", " ".join(words))
        MEASURING.setdefault(module, set()).update(named)


def test_every_command_of_the_benchmarks_is_in_a_document() -> None:
    """A command is a module beside the benchmarks' README, or a package, that can be started."""
    files = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "benchmarks").glob("*/__main__.py")]
    names = {
        file.parent.name if file.stem == "__main__" else file.stem
        for file in files
        if "argparse.ArgumentParser(" in file.read_text(encoding="utf-8")
    }
    assert {f"benchmarks.{name}" for name in names} <= MEASURING.keys()


@pytest.mark.parametrize("name", sorted(MEASURING))
def test_usage_of_a_benchmark(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """These take minutes, so only their arguments are checked."""
    with pytest.raises(SystemExit) as ended:
        import_module(MAIN.get(name, name)).main(["--help"])
    assert ended.value.code == 0
    usage = capsys.readouterr().out
    assert usage.startswith(f"usage: {name} ")
    assert [word for word in MEASURING[name] if word not in usage] == []


def test_help_of_the_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = shown("run")
    with pytest.raises(SystemExit):
        import_module("benchmarks.run").main(line.split()[1:])
    text = capsys.readouterr().out
    assert all(option in text for option in ("--contenders", "--models", "--workloads"))


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("line", shown("make"))
def test_make(line: str) -> None:
    command = [*shlex.split(line), "--dry-run", "--always-make"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_demo_and_tests_say_which_engine_runs() -> None:
    """Where the kernels are not installed, both say so."""
    typed = {
        command: subprocess.run(
            command, cwd=ROOT, check=True, capture_output=True, encoding="utf-8"
        ).stdout
        for command in (
            ("make", "demo", "--dry-run"),
            (sys.executable, "-m", "pytest", "--collect-only", "tests/test_sharing.py"),
        )
    }
    demo, tests = typed.values()
    assert "embedrt info $bundle | grep ^engine" in demo
    absent = find_spec("embedrt_kernels") is None
    assert ("native kernels: not installed" in tests) == absent


@pytest.mark.parametrize("line", shown("python tests/fuzz/bundles.py"))
def test_fuzzing(line: str) -> None:
    """With zero minutes, there are no mutations."""
    command = [sys.executable, *shlex.split(line.replace("30", "0"))[1:]]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def test_tests_that_a_document_names() -> None:
    """Full-size models take minutes, so only the existence of the slow tests is checked."""
    (line,) = shown("pytest")
    file = ROOT / line.split()[1]
    assert f"pytest.mark.{line.split()[-1]}" in file.read_text(encoding="utf-8")
