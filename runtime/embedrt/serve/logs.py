"""Logs on stderr, as text or as JSON, one line per event, without the texts of requests."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]

LOGGERS = ("embedrt.serve", "uvicorn.error")


class TextFormatter(logging.Formatter):
    """Time, level, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, or several for a traceback."""
        return f"{_time(record)} {record.levelname.lower()} {_message(record)}"


class JsonFormatter(logging.Formatter):
    """An object with the same fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        return json.dumps(
            {
                "time": _time(record),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": _message(record),
            }
        )


def configure_logging(style: LogFormat, level: str) -> None:
    """Write the server's log to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # its own lines tell nothing more


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.exc_info and record.exc_info[0]:
        message += f": {record.exc_info[0].__name__}"  # its message might hold a text
    return message
