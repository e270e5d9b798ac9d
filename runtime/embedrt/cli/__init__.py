"""The command line: ``embedrt COMMAND ...``, one module a command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from embedrt.cli import bench, encode, export, info, search, upgrade, verify
from embedrt.errors import EmbedrtError

COMMANDS = (encode, search, info, verify, upgrade, bench, export)
INTERRUPTED = 130  # 128 + SIGINT, as shells expect
UNREAD = 141  # 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 for a failure, 2 for wrong usage."""
    if arguments is None:
        _speak_utf8()
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has enough, as `head` does. Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except (EmbedrtError, OSError, ValueError, TypeError) as error:
        lines = str(error).splitlines()  # other libraries' messages have several
        print("embedrt:", *filter(None, lines), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("embedrt: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


class CommandParser(argparse.ArgumentParser):
    """A command's own parser. Its first argument is the command's name.

    argparse up to Python 3.13.0 loses a ``--`` that no positional argument precedes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_argument("command", help=argparse.SUPPRESS)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line, with options and positional arguments in any order.

    argparse up to Python 3.13.0 takes an optional FILE as left out once an option follows BUNDLE,
    unless it parses them intermixed, which a parser with subcommands cannot do: the command's own
    does.
    """
    parser = argparse.ArgumentParser(prog="embedrt", description="Sentence embeddings on the CPU.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    for command in COMMANDS:
        command.add_to(commands)
    chosen = commands.choices.get(arguments[0]) if arguments else None
    if chosen is None:
        return parser.parse_args(arguments[:1])  # the help, or what is wrong
    return chosen.parse_intermixed_args(arguments)


def _speak_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale says otherwise.

    Texts, queries and names of files are UTF-8, and the libraries in C++ and Rust know no other.
    """
    if sys.getfilesystemencoding() != "utf-8":
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execv(sys.executable, command)  # noqa: S606 - ourselves
