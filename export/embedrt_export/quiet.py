"""Suppresses output of other libraries and shortens their error messages."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

LONGEST_GIST = 240
# Instructions for direct callers of a library; they do not apply to users of the exporter.
ADVICE = re.compile(
    r"trust_remote_code|pip3? install|https?://|one of the following|you can|you should|please|"
    r"^(only|should|this could|make sure|consider|if you)\b",
    re.IGNORECASE,
)
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\[`'\"])|\n\s*\n")


def gist(error: BaseException) -> str:
    """Return the first sentence of a library's error message that describes the problem.

    Advice, lists and further paragraphs are dropped. The exception's class name is prepended if the
    message is a single word.
    """
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    sentences = [" ".join(part.split()) for part in SENTENCE.split(message)]
    useful = [sentence for sentence in sentences if sentence and not ADVICE.search(sentence)]
    text = useful[0] if useful else ""
    if " " not in text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    text = text.rstrip(".")
    return text if len(text) <= LONGEST_GIST else f"{text[: LONGEST_GIST - 3]}..."


@contextmanager
def quiet(*, errors: bool = False) -> Iterator[None]:
    """Suppress warnings, prints, progress bars and log records below the level ERROR.

    With `errors`, records of that level are suppressed too, for libraries that also raise what they
    log. Log records of this package are suppressed with the others.
    """
    level = logging.root.manager.disable
    wanted = logging.ERROR if errors else logging.WARNING
    if level < wanted:
        logging.disable(wanted)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        if level < wanted:  # each change clears a cache of every logger
            logging.disable(level)
