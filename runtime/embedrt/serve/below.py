"""The path below which a proxy serves the application, whether or not the proxy removes it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class Below:
    """Passes requests to `app` in ASGI's form: the path begins with the root path."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root = "".join(f"/{part}" for part in root_path.split("/") if part)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the root path where the proxy has taken it off."""
        if self._root:
            path: str = scope["path"]
            whole = path if path.startswith(f"{self._root}/") else self._root + path
            scope = {**scope, "root_path": self._root, "path": whole}
        await self._app(scope, receive, send)
