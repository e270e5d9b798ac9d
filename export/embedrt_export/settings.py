"""The settings of a model's files, under the name that they had before `source` was a package."""

from embedrt_export.source.settings import Settings, read_settings

__all__ = ["Settings", "read_settings"]
