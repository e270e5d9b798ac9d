"""Tests that options and positional arguments may be in any order, on every Python."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from embedrt.cli import COMMANDS, main, parse

# Positional arguments, then options with their values. A command line is any permutation of these
# that preserves the order of the positional ones.
LINES: dict[str, tuple[list[str], list[list[str]]]] = {
    "encode": (["B", "F"], [["--threads", "1"], ["--normalize"], ["--output", "x.npy"]]),
    "search": (["B", "F"], [["--query", "t"], ["--top-k", "1"], ["--field=f"]]),
    "rerank": (["B", "F"], [["--query", "t"], ["--top-k", "1"], ["--field=f"]]),
    "embed": (["S", "O"], [["--bundle", "B"], ["--text", "t"], ["--normalize"]]),
    "corpus": (["verify", "O"], [["--source", "S"], ["--sample", "1"]]),
    "info": (["B"], [["--json"]]),
    "verify": (["B"], [["--against", "M"]]),
    "upgrade": (["B", "O"], []),
    "serve": (["B"], [["--port", "1"], ["--max-body-mb=2"], ["--uds", "u"], ["--timeout", "3"]]),
    "bench": (["B"], [["--quick"], ["--json"]]),
    "export": (["M"], [["--precision", "int8"], ["--output", "d"]]),
    "compare": (["M", "B", "T"], [["--html", "page.html"]]),
    "pull": (["O"], [["--revision", "r"], ["--output", "d"]]),
    "push": (["B", "O"], [["--private"], ["--revision", "r"]]),
}


def orders(positional: list[str], options: list[list[str]]) -> list[list[list[str]]]:
    parts = [[name] for name in positional] + options
    return [
        list(order)
        for order in itertools.permutations(parts)
        if [part[0] for part in order if part[0] in positional] == positional
    ]


def told(*arguments: str) -> dict[str, object]:
    return vars(parse(arguments))


def test_every_command_is_covered() -> None:
    assert set(LINES) == {command.__name__.rpartition(".")[2] for command in COMMANDS}


@pytest.mark.parametrize("command", LINES)
def test_the_order_does_not_matter(command: str) -> None:
    positional, options = LINES[command]
    expected = told(command, *positional, *itertools.chain(*options))
    assert set(positional) <= {str(value) for value in expected.values()}
    for order in orders(positional, options):
        assert told(command, *itertools.chain(*order)) == expected


@pytest.mark.parametrize("command", LINES)
def test_names_that_begin_with_a_dash_follow_two(command: str) -> None:
    """The two dashes may be before all names, before the last, or after."""
    positional, options = LINES[command]
    for order in orders(positional, options):
        for cut in range(len(order) + 1):
            after = [part[0] for part in order[cut:]]
            if all(name in positional for name in after):
                before = itertools.chain(*order[:cut])
                found = told(command, *before, "--", *(f"-{name}" for name in after))
                names = {*(set(positional) - set(after)), *(f"-{name}" for name in after)}
                assert names <= {str(value) for value in found.values()}


def test_the_default_file_is_stdin() -> None:
    for order in orders(["B"], [["--query", "t"], ["--top-k", "1"]]):
        assert told("search", *itertools.chain(*order))["file"] == "-"
    assert told("encode", "B", "--normalize", "-")["file"] == "-"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("search B F", "the following arguments are required: --query"),
        ("search --query t", "the following arguments are required: BUNDLE"),
        ("search B --query t F G", "unrecognized arguments: G"),
        ("search B --query -- F", "argument --query: expected one argument"),
        ("search B --query t --top-k many F", "argument --top-k: invalid int value: 'many'"),
        ("encode B --bogus", "unrecognized arguments: --bogus"),
        ("info --json", "the following arguments are required: BUNDLE"),
        ("", "the following arguments are required: COMMAND"),
        ("-- info B", "the following arguments are required: COMMAND"),
        ("--bogus info B", "the following arguments are required: COMMAND"),
    ],
)
def test_usage_errors_are_reported(
    line: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    usage, _, last = capsys.readouterr().err.rstrip("\n").rpartition("\n")
    assert usage.startswith("usage: embedrt ")
    assert last.endswith(f"error: {complaint}")


@pytest.mark.parametrize("command", LINES)
@pytest.mark.parametrize("before", [[], ["x"]])
def test_help_lists_every_argument(
    command: str, before: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, *before, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: embedrt {command} [-h] ")
    positional, options = LINES[command]
    assert any(name in text for name in ("BUNDLE", "MODEL", "ORG/NAME"))
    assert ("[FILE]" in text) == ("F" in positional)
    assert all(option[0].partition("=")[0] in text for option in options)
    assert "command" not in text.partition("\n\n")[0]


def test_file_after_an_option(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_bytes(b"w1\nw2 w2\n")
    arguments = ["search", tiny, "--query", "w2", tmp_path / "texts.txt", "--top-k", "1"]
    assert main([*map(str, arguments)]) == 0
    assert capsys.readouterr().out == "2.0000\tw2 w2\n"
