"""A fast lookup of endpoints whose paths have no parameters, which get most of the traffic.

Starlette's router, which compares patterns in turn, and its exception handler remain for other
paths, other methods and HEAD. Endpoints handle their own exceptions.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from embedrt.serve.endpoint import Endpoint
from embedrt.serve.security import path_of


class Direct:
    """Passes requests to the endpoint of their method and path, or else to `app`."""

    def __init__(self, app: ASGIApp, *, endpoints: Iterable[Endpoint]) -> None:
        self._app = app
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        for endpoint in endpoints:
            operation = endpoint.operation
            if "{" not in operation.path:
                self._endpoints.setdefault((operation.method, operation.path), endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look the path up."""
        if scope["type"] == "http":
            endpoint = self._endpoints.get((scope["method"], path_of(scope)))
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await self._app(scope, receive, send)
