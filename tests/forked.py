"""Processes with their imports done, so that they start quickly and can be killed early."""

from __future__ import annotations

from multiprocessing import get_context

# The tests of a process share one server, which imports what is named before it starts.
FORKED = get_context("forkserver")
FORKED.set_forkserver_preload(
    ["embedrt.cli", "embedrt.corpus", "ray", "embedrt_export", "killed_exports"]
)  # what is installed
