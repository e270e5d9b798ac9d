"""Other libraries' advice and progress, kept off the terminal of somebody who did not call them."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

LONGEST_GIST = 240
# What a library tells its own callers to do, which is no advice for somebody who did not call it.
ADVICE = re.compile(
    r"trust_remote_code|pip3? install|https?://|one of the following|you can|you should|please|"
    r"^(only|should|this could|make sure|consider|if you)\b",
    re.IGNORECASE,
)
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\[`'\"])|\n\s*\n")


def gist(error: BaseException) -> str:
    """Return the first sentence of another library's message that says what is wrong.

    Its advice, lists and further paragraphs are left out; the kind of the error comes first where
    the message is a bare word.
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
def quiet() -> Iterator[None]:
    """Silence warnings, prints, progress bars and everything below an error in the log.

    Not for work that logs lines of our own: they would be lost too.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
