"""Reasons for which a contender has no figures."""


class ContenderError(Exception):
    """A contender cannot be installed or prepared, crashes, hangs, or answers wrongly."""


class HungError(ContenderError):
    """A contender does not answer in time."""
