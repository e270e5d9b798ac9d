"""The command line: ``embedrt COMMAND ...``, one module per command.

Each command's module adds a parser with `add_to`, and its `run` prints results on stdout and all
else on stderr. `bundles`, `lines`, `log` and `output` are common to several commands. A command
imports the packages of an extra, or the exporter, only when it runs.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

from embedrt.cli import (
    bench,
    compare,
    corpus,
    embed,
    encode,
    export,
    info,
    pull,
    push,
    rerank,
    search,
    serve,
    upgrade,
    verify,
)
from embedrt.errors import EmbedrtError
from embedrt.signals import INTERRUPTED

COMMANDS = (
    encode, search, rerank, embed, corpus, serve, info, verify, upgrade, bench, export, compare,
    pull, push,
)  # fmt: skip
BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 for a failure, 2 for wrong usage."""
    if arguments is None:
        _require_utf8_mode()
        _open_closed_streams()
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()  # the reader has closed the pipe, as `head` does
        return BROKEN_PIPE
    except (EmbedrtError, OSError, ValueError, TypeError) as error:
        complaint = str(error)
        if isinstance(error, OSError) and error.errno == errno.EBADF:
            _discard_stdout()
            complaint = "stdin or stdout is closed"
        lines = complaint.splitlines()  # messages of other libraries may have several lines
        print("embedrt:", *filter(None, lines), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("embedrt: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, whose first argument is the command's name.

    In Python up to 3.13.0, argparse loses a ``--`` that no positional argument precedes.
    """

    def __init__(self, *, description: str | None = None, **options: Any) -> None:
        """Take the command's docstring as the description: "``embedrt NAME``: what it does."."""
        what = (description or "").partition(": ")[2].replace("`", "")
        super().__init__(description=what[:1].upper() + what[1:], **options)
        self.add_argument("command", help=argparse.SUPPRESS)


class PrintVersion(argparse.Action):
    """Prints the version, which is read on demand, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print ``embedrt VERSION``."""
        from embedrt import __version__  # noqa: PLC0415  # slow to import

        print("embedrt", __version__)
        parser.exit()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line, with options and positional arguments in any order.

    In Python up to 3.13.0, argparse treats an optional FILE as omitted if an option follows BUNDLE,
    except in intermixed parsing. A parser with subcommands does not support intermixed parsing, so
    the parser of the command does it.
    """
    parser = argparse.ArgumentParser(prog="embedrt", description="Sentence embeddings on the CPU.")
    parser.add_argument(
        "--version", action=PrintVersion, nargs=0, help="print the version and exit"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    for command in COMMANDS:
        command.add_to(commands)
    chosen = commands.choices.get(arguments[0]) if arguments else None
    if chosen is None:
        return parser.parse_args(arguments[:1])  # prints the help or an error, and exits
    return chosen.parse_intermixed_args(arguments)


def _open_closed_streams() -> None:
    """Open the standard streams that are closed: stdin and stdout so that their use is an error.

    Otherwise, the next file that is opened takes the stream's number, and gets what is printed.
    """
    wrong = {"stdin": os.O_WRONLY, "stdout": os.O_RDONLY, "stderr": os.O_WRONLY}
    for name, direction in wrong.items():
        if getattr(sys, name) is None:
            stream = os.fdopen(
                os.open(os.devnull, direction),
                "r" if name == "stdin" else "w",
                encoding="utf-8",
                closefd=False,
            )
            setattr(sys, name, stream)


def _discard_stdout() -> None:
    """Redirect stdout, which Python flushes again at exit, so that this does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _require_utf8_mode() -> None:
    """Restart in Python's UTF-8 mode if the locale has another encoding.

    Texts, queries and file names are UTF-8; the libraries in C++ and Rust support nothing else.
    """
    if sys.getfilesystemencoding() != "utf-8":
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execv(sys.executable, command)  # noqa: S606 - the same interpreter and arguments
