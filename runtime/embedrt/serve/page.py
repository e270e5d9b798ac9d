"""The page for browsers: one HTML file, which loads nothing from anywhere else."""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from pathlib import Path

PAGE = Path(__file__).with_name("page.html").read_bytes()


def _hash_of(element: bytes) -> str:
    """Return the hash of an inline element as a content security policy names it."""
    (content,) = re.findall(b"<%b>(.*?)</%b>" % (element, element), PAGE, flags=re.DOTALL)
    return base64.b64encode(sha256(content).digest()).decode()


PAGE_HEADERS = (
    (
        b"content-security-policy",
        (
            f"default-src 'none'; script-src 'sha256-{_hash_of(b'script')}'; "
            f"style-src 'sha256-{_hash_of(b'style')}'; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ).encode(),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
