"""The ASGI application: every route with its dialect, behind one guard."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from embedrt.loaded import LoadedBundle
from embedrt.serve.dialects import (
    late,
    openai,
    own,
    predict,
    rerank,
    root,
    sparse,
    tei,
    tokens,
    weaviate,
)
from embedrt.serve.direct import Direct
from embedrt.serve.endpoint import Endpoint
from embedrt.serve.errors import RequestError
from embedrt.serve.operation import Dialect, Operation
from embedrt.serve.options import ServeOptions
from embedrt.serve.security import Guard, path_of
from embedrt.serve.service import Service
from embedrt.serve.wire import Reply, new_request_id, send_reply

# In order of their frequency, because they are searched in this order.
OPERATIONS: list[Operation] = [
    *openai.OPERATIONS,
    *tei.OPERATIONS,
    *rerank.OPERATIONS,
    *predict.OPERATIONS,
    *sparse.OPERATIONS,
    *late.OPERATIONS,
    *root.OPERATIONS,
    *tokens.OPERATIONS,
    *weaviate.OPERATIONS,
    *own.OPERATIONS,
]
PUBLIC = frozenset(operation.path for operation in OPERATIONS if operation.public)


def create_app(loaded: LoadedBundle, options: ServeOptions | None = None) -> Starlette:
    """Return the ASGI application that serves a bundle loaded by the class of its task.

    It limits the size of bodies (`ServeOptions.max_body_mb`), but leaves slow clients and long
    headers to the server that runs it. Load the bundle with `max_waiting_tokens`; otherwise the
    queue has no limit. The attribute ``state.service`` holds the `Service` of all routes.
    """
    service = Service(loaded, options or ServeOptions())
    endpoints = [Endpoint(operation, service) for operation in OPERATIONS]
    app = Starlette(
        routes=[
            Route(each.operation.path, each, methods=[each.operation.method]) for each in endpoints
        ],
        middleware=[*_middleware(service.options), Middleware(Direct, endpoints=endpoints)],
        exception_handlers={HTTPException: _no_route},
    )
    # A redirect would carry the host that the client names.
    app.router.redirect_slashes = False
    app.state.service = service
    return app


def dialect_of(path: str) -> Dialect:
    """Return the dialect of a path: OpenAI's below ``/v1``, and TEI's for unknown paths."""
    for operation in _operations_at(path):
        return operation.dialect
    return openai.DIALECT if path.startswith("/v1/") else tei.DIALECT


def _operations_at(path: str) -> list[Operation]:
    """Return the operations of a path; the parameter of a route is the end of its path."""
    return [
        each
        for each in OPERATIONS
        if each.path == path or ("{" in each.path and path.startswith(each.path.partition("{")[0]))
    ]


def _refusal(scope: Scope, error: RequestError) -> tuple[Reply, bytes]:
    """Return the answer to a request that reaches no endpoint, and its id; count it."""
    path = path_of(scope)
    reply = dialect_of(path).reply(error)
    known = [each.path for each in _operations_at(path)]
    route = known[0] if known else "other"
    scope["app"].state.service.metrics.note(route, reply.status, 0, embeds=False)
    return reply, new_request_id()


def _middleware(options: ServeOptions) -> list[Middleware]:
    middleware = []
    if options.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(options.cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],  # OpenAI's client in JavaScript sends a dozen of its own
                expose_headers=["Retry-After", "X-Request-Id"],
            )
        )
    guard = Middleware(Guard, keys=options.api_keys, public=PUBLIC, refuse=_no_key)
    return [*middleware, guard]


async def _no_key(scope: Scope, _: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    message = "no valid API key; send the header Authorization: Bearer KEY"
    await send_reply(send, *_refusal(scope, RequestError("unauthorized", message)))


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = path_of(request.scope)
    headers = {}
    if error.status_code == 405:
        allowed = ", ".join(sorted({each.method for each in _operations_at(path)}))
        message = f"this route does not accept {request.method[:20]!r}; send {allowed}"
        problem = RequestError("method", message)
        headers["allow"] = allowed.replace("GET", "GET, HEAD")
    else:
        problem = RequestError("not_found", "there is no such route; GET / lists all routes")
    reply, request_id = _refusal(request.scope, problem)
    headers["x-request-id"] = request_id.decode()
    return Response(reply.body, reply.status, headers, reply.content_type.decode())
