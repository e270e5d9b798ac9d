"""The options of the application, which other servers can set too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedrt.arguments import check_at_least, check_count

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Options of `create_app`. None of them changes a vector."""

    api_keys: tuple[str, ...] = ()
    """Accepted API keys; without any, requests need no key."""
    served_name: str | None = None
    """The model's name in answers; by default the bundle's."""
    max_body_mb: float = 16
    """Limit of a request's body, in megabytes. All bodies together may have four times as much."""
    max_texts: int = 2048
    """Limit of the texts in a request."""
    timeout: float = 60
    """Seconds until a request that has not been answered gets the status 503."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the server from a browser; ``*`` for all."""
    tiktoken: Path | None = None
    """A file of byte pairs in tiktoken's format, to accept token ids of OpenAI's models."""

    def __post_init__(self) -> None:
        check_at_least("max_body_mb", self.max_body_mb, 0.001)
        check_count("max_texts", self.max_texts, 1)
        check_at_least("timeout", self.timeout, 0.001)
        if not all(key.isascii() and key.isprintable() and key.strip() for key in self.api_keys):
            raise ValueError("an API key is empty or has characters that no HTTP header can carry")

    @property
    def max_body_bytes(self) -> int:
        """`max_body_mb` in bytes."""
        return int(self.max_body_mb * MEGABYTE)
