"""The command line: ``embedrt COMMAND ...``, one module a command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from embedrt.cli import bench, encode, export, info, search, verify
from embedrt.errors import EmbedrtError

COMMANDS = (encode, search, info, verify, bench, export)
INTERRUPTED = 130  # 128 + SIGINT, as shells expect
UNREAD = 141  # 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 for a failure, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="embedrt", description="Sentence embeddings on the CPU.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    options = parser.parse_args(arguments)
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
