"""Bundles on a model hub: `push` uploads a bundle, `pull` downloads and verifies it.

Before a pulled bundle gets its name, every hash is checked and its probes are computed in a child
process. This is the only part of the runtime that opens a connection, and only for bundles named
``hub:org/name`` or ``hub:org/name@COMMIT``.
"""
