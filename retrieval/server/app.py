"""The FastAPI application over one retriever.

    POST /retrieve     every dialect of `dialects`, answered in its shape
    POST /access       documents by id, title or url
    GET  /health       (and /healthz; HEAD too) what is served and with what limits; needs no token
    GET  /metrics      for Prometheus

Bodies are decoded and checked by hand and written by orjson: pydantic costs more than a search. Searches run in
threads, merged over connections by a `MicroBatcher`. Every error is `{"error": "..."}`.
"""

import hmac
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from retrieval.retriever import Retriever
from retrieval.server.bodies import RequestBodies
from retrieval.server.description import access_operation, health_operation, metrics_operation, retrieve_operation
from retrieval.server.metrics import CONTENT_TYPE, MeasuredApp, ServerMetrics
from retrieval.server.refusal import Refusal
from retrieval.server.service import SearchService
from retrieval.server.settings import ServerSettings

_log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/healthz"})
"""What a load balancer may ask without a token."""

CLIENT_LEFT = 499
"""Logged and counted where nobody is left to read a status."""


def create_app(retriever: Retriever, settings: ServerSettings | None = None) -> FastAPI:
    """An ASGI application that searches `retriever`, which stays the caller's to close.

    Raises:
        ValueError: the retriever has no passages.
    """
    settings = settings or ServerSettings()
    metrics = ServerMetrics()
    service = SearchService(retriever, settings, metrics)
    bodies = RequestBodies(settings, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(
        title="Waymark retrieval server",
        version="1",
        description="Search over one corpus, in the request and answer shapes of the field's retrieval servers.",
        lifespan=lifespan,
        redoc_url=None,
    )

    @app.post("/retrieve", openapi_extra=retrieve_operation(settings, retriever.num_passages))
    async def retrieve(request: Request) -> Response:
        """The best passages of one query or many."""
        body = await bodies.read_json(request.scope, request.receive)
        return _json_response(await service.retrieve(body, request.receive), service.answer_headers)

    @app.post("/access", openapi_extra=access_operation(settings))
    async def access(request: Request) -> Response:
        """Documents by id, title or url."""
        body = await bodies.read_json(request.scope, request.receive)
        return _json_response(await service.access(body, request.receive), service.answer_headers)

    @app.head("/healthz", include_in_schema=False)
    @app.head("/health", include_in_schema=False)
    @app.get("/healthz", openapi_extra=health_operation())
    @app.get("/health", openapi_extra=health_operation())
    async def health() -> Response:
        """What is served, with what limits, since when."""
        return _json_response(service.health(), service.answer_headers)

    @app.get("/metrics", openapi_extra=metrics_operation())
    async def metrics_page() -> Response:
        """Counters for Prometheus, of all replicas together."""
        return Response(await metrics.page(), media_type=CONTENT_TYPE)

    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _crashed)
    if settings.token is not None:
        app.add_middleware(TokenGate, token=settings.token.get_secret_value())
    app.add_middleware(MeasuredApp, metrics=metrics)
    return app


class TokenGate:
    """ASGI middleware: 401 without the bearer token, before anything of the request is read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            given = dict(scope["headers"]).get(b"authorization", b"")
            scheme, _, credentials = given.partition(b" ")
            # the scheme's case means nothing (RFC 9110, 11.1)
            if scheme.lower() != b"bearer" or not hmac.compare_digest(credentials.lstrip(b" "), self._token):
                said = "is wrong" if given else "is missing"
                message = f"the token {said}; send the header `Authorization: Bearer TOKEN`"
                refusal = Refusal(401, message, {"WWW-Authenticate": "Bearer"})
                await _error(refusal.status, refusal.message, refusal.headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _json_response(content: bytes, headers: Mapping[str, str]) -> Response:
    return Response(content, headers=headers, media_type="application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps({"error": message}), status, headers, media_type="application/json")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _error(error.status, error.message, error.headers)


async def _left(_: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail or HTTPStatus(error.status_code).phrase)
    headers = dict(error.headers or {})
    path, methods = request.url.path, _methods(request.app)
    if error.status_code == 404:
        there = ", ".join(f"{' or '.join(allowed)} {known}" for known, allowed in methods.items())
        message = f"there is no path {path[:200]!r}; send one of {there} (/docs describes them)"
    elif error.status_code == 405:
        allowed = methods.get(path) or sorted(headers.get("Allow", "GET").split(", "))
        headers["Allow"] = ", ".join(allowed)
        message = f"{path} does not take {request.method[:20]}; send {' or '.join(allowed)} {path}"
    return _error(error.status_code, message, headers)


def _methods(app: FastAPI) -> dict[str, list[str]]:
    """Of every path of the service, without those that describe it."""
    found: dict[str, list[str]] = {}
    for route in app.routes:
        if isinstance(route, APIRoute):
            found.setdefault(route.path, []).extend(route.methods)
    return {path: sorted(methods) for path, methods in sorted(found.items())}


async def _crashed(request: Request, error: Exception) -> Response:
    _log.exception("%s %s", request.method, request.url.path, exc_info=error)
    return _error(500, "the server failed on this request; its log has the traceback")
