"""Errors for frameworks that are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from embedrt.errors import MissingExtraError


@contextmanager
def needs(framework: str) -> Iterator[None]:
    """Convert a failed import of a framework to an error with the command that installs it.

    Raises MissingExtraError if a module that the ``with`` block imports is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # Before pip 23.3, an extra is found by its normalized name only.
        extra = framework.replace("_", "-")
        raise MissingExtraError(
            f"embedrt.integrations.{framework} needs {error.name}: pip install 'embedrt[{extra}]'"
        ) from error
