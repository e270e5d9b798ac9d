"""Errors that explain why a contender has no figures."""


class ContenderError(Exception):
    """A contender cannot be installed or prepared, crashes, hangs, or returns wrong vectors."""


class HungError(ContenderError):
    """A contender does not answer in time."""
