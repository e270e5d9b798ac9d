"""Bundles that travel by a model hub: pushed once, pulled everywhere.

A pulled bundle has every hash checked and its probes computed in a child process before it has its
name. This is the only part of the runtime that opens a connection, and only where a bundle is
spelled ``hub:org/name`` or ``hub:org/name@COMMIT``.
"""
