"""Why a contender has no figures."""

from __future__ import annotations


class ContenderError(Exception):
    """It is not installed or prepared, crashed, hung, or answered wrongly: the text tells."""


class HungError(ContenderError):
    """It did not answer in time."""
