"""The check of the API key, before any other processing, on every path except the probes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from hashlib import sha256
from hmac import compare_digest

from starlette.types import ASGIApp, Receive, Scope, Send

from embedrt.serve.wire import header


class Guard:
    """Passes requests that carry a key, or whose path is public, to `app`; others to `refuse`."""

    def __init__(
        self, app: ASGIApp, *, keys: Sequence[str], public: Collection[str], refuse: ASGIApp
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._public = frozenset(public)
        # Digests have one length, so the time of a comparison does not depend on the keys' lengths.
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decide by the path and the header ``Authorization``."""
        allowed = scope["type"] == "lifespan" or self._allows(scope)
        await (self._app if allowed else self._refuse)(scope, receive, send)

    def _allows(self, scope: Scope) -> bool:
        if not self._digests or path_of(scope) in self._public:
            return True
        given = header(scope, b"authorization")
        if given is None:
            return False
        digest = sha256(_key_of(given)).digest()
        # All keys are compared, so the time does not depend on which one matches.
        return sum(compare_digest(digest, known) for known in self._digests) > 0


def path_of(scope: Scope) -> str:
    """Return the path below the root path."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path


def _key_of(authorization: bytes) -> bytes:
    """Return the key of ``Bearer KEY``, of ``Basic`` as its password, or of the bare key."""
    scheme, _, rest = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return authorization.strip()
