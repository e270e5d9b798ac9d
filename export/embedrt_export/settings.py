"""Alias of `source.settings`, kept for scripts that use the former module name."""

from embedrt_export.source.settings import Settings, read_settings

__all__ = ["Settings", "read_settings"]
