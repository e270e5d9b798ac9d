"""Shows log records of a part of the package while a command runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def shown_log(name: str, style: str = "%(message)s") -> Iterator[None]:
    """Write a logger's records of level INFO and above to stderr; restore the logger afterwards."""
    logger = logging.getLogger(name)
    level = logger.level
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(style))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
