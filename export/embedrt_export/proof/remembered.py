"""Cached results of an original model, so that its weights can be released before the proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from embedrt.errors import UnsupportedModelError
from embedrt.pair import Text
from embedrt.text.inputs import start_of
from embedrt_export.encoder import FloatArray
from embedrt_export.quiet import gist


class Remembered:
    """Runs each text once per call, and caches the result."""

    def __init__(self, name: str, run: Callable[[Any, Any], FloatArray]) -> None:
        """Create an empty cache of the results of `run`, a function of a text and a call.

        `name` is the library that it runs, for error messages.
        """
        self._name, self._run = name, run
        self._known: dict[tuple[Any, Text], FloatArray] = {}
        self._is_released = False

    def of(self, texts: Sequence[Text], call: Any) -> FloatArray:
        """Return the results of texts in a call, a row each.

        Raises UnsupportedModelError if the original fails on a text, and RuntimeError for a text
        that was not run before the release.
        """
        for text in texts:
            if (call, text) not in self._known:
                if self._is_released:
                    raise RuntimeError(
                        f"{call} on {start_of(text)} after the weights were released"
                    )
                self._known[call, text] = self._result(text, call)
        return np.stack([self._known[call, text] for text in texts])

    def _result(self, text: Text, call: Any) -> FloatArray:
        try:
            return self._run(text, call)
        except Exception as error:  # malformed files raise any kind
            raise UnsupportedModelError(
                f"{self._name} fails at {call} on {start_of(text)}: {gist(error)}"
            ) from error

    def known(self) -> set[tuple[Any, Any]]:
        """Return the calls and texts with cached results."""
        return set(self._known)

    def release(self) -> None:
        """Drop the function: from now on, only cached results are available."""
        self._is_released = True
