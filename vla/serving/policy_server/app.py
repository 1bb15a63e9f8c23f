"""The HTTP side of a served policy, and the routes of all of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from vla.errors import UserError
from vla.serving.policy_server.access import is_allowed
from vla.serving.policy_server.batching import BusyError, PredictionError, StoppingError
from vla.serving.policy_server.contract import ContractError
from vla.serving.policy_server.openapi import describe
from vla.serving.policy_server.service import PolicyService, Reply
from vla.serving.policy_server.sockets import PolicySocket
from vla.serving.policy_server.wire import dump_json, load_json

Endpoint = Callable[[Request], Awaitable[Response]]

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"/": "index.html", "/live.js": "live.js", "/live.css": "live.css"}
ANSWERS = ("action", "chunk", "list", "all")
_BODY_SECONDS = 30.0  # for a client to send what it announced
_STATUS = {  # first match
    ContractError: 409, UserError: 400, BusyError: 503, StoppingError: 503, PredictionError: 500,
}  # fmt: skip
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def make_app(service: PolicyService, token: str | None) -> Starlette:
    """
    All routes.

    Args:
        service: answers.
        token: what clients must know; None: anybody may ask.
    """
    routes = HTTPRoutes(service, token)
    socket = PolicySocket(service, token)
    return Starlette(
        routes=[
            Route("/act", routes.guarded(routes.act), methods=["POST"]),
            Route("/contract", routes.guarded(routes.contract), methods=["GET"]),
            Route("/contract", routes.guarded(routes.check_contract), methods=["POST"]),
            Route("/live.json", routes.guarded(routes.live), methods=["GET"]),
            Route("/metrics", routes.guarded(routes.metrics), methods=["GET"]),
            Route("/healthz", routes.health, methods=["GET"]),
            Route("/openapi.json", routes.openapi, methods=["GET"]),
            *(Route(path, routes.page, methods=["GET"]) for path in PAGE_FILES),
            WebSocketRoute("/", socket.serve),
            WebSocketRoute("/ws", socket.serve),
        ],
        exception_handlers={HTTPException: _on_http_error},
    )


class HTTPRoutes:
    """
    The endpoints.

    Args:
        service: answers.
        token: see `make_app`.
    """

    def __init__(self, service: PolicyService, token: str | None) -> None:
        self._service, self._token = service, token

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """`endpoint` for those who may ask, with every error as one line of JSON."""

        async def guard(request: Request) -> Response:
            if not is_allowed(request.headers, self._token):
                return _error(401, "token: must be sent as the header `Authorization: Bearer TOKEN`")
            try:
                with self._service.busy():
                    return await endpoint(request)
            except ClientDisconnect:
                return _error(400, "body: the connection was closed")
            except (UserError, BusyError, StoppingError, PredictionError) as error:
                return _error(next(code for kind, code in _STATUS.items() if isinstance(error, kind)), str(error))

        return guard

    async def act(self, request: Request) -> Response:
        """Actions for an observation."""
        message, encoded = await self._read_message(request)
        answer = _read_answer(message)
        client = f"http {request.client.host}" if request.client else "http"
        reply = await self._service.answer(message, "http", client)
        content = dump_json(_content(reply, message, answer))
        if encoded:  # whoever wraps its request unwraps the answer
            content = json.dumps(content.decode()).encode()
        timing = f"queue;dur={reply.queue_ms:.2f}, infer;dur={reply.infer_ms:.2f}"
        return Response(content, media_type="application/json", headers={"server-timing": timing})

    async def contract(self, request: Request) -> Response:
        """What is served."""
        return Response(dump_json(self._service.served.metadata()), media_type="application/json")

    async def check_contract(self, request: Request) -> Response:
        """Whether a client means the same."""
        self._service.served.check(load_json(await self._read_body(request)))
        return JSONResponse({"fits": True})

    async def live(self, request: Request) -> Response:
        """What the page draws."""
        query = request.query_params
        try:
            after = int(query.get("after", "0")[:20])
        except ValueError as error:
            raise UserError(f"after: must be a whole number, got {query['after'][:20]!r}") from error
        state = await asyncio.to_thread(self._service.live.state, query.get("client"), after)
        return JSONResponse(state | {"waiting": self._service.batcher.waiting})

    async def metrics(self, request: Request) -> Response:
        """Counters, for Prometheus."""
        text, media_type = self._service.metrics.text()
        return Response(text, headers={"content-type": media_type})

    async def health(self, request: Request) -> Response:
        """Whether observations are taken."""
        stopping = self._service.stopping
        state = {"status": "stopping" if stopping else "ok", "waiting": self._service.batcher.waiting}
        return JSONResponse(state, 503 if stopping else 200)

    async def openapi(self, request: Request) -> Response:
        """What this interface is."""
        return JSONResponse(describe(self._service.served, self._token is not None))

    async def page(self, request: Request) -> Response:
        """The live page and its two files."""
        return FileResponse(PAGE / PAGE_FILES[request.url.path], headers=_PAGE_HEADERS)

    async def _read_message(self, request: Request) -> tuple[Any, bool]:
        """The message, and whether it came wrapped in `{"encoded": "..."}`."""
        message = await asyncio.to_thread(load_json, await self._read_body(request))
        if not (isinstance(message, dict) and set(message) == {"encoded"}):
            return message, False
        if not isinstance(message["encoded"], str):
            raise UserError("encoded: must be JSON as a string")
        return await asyncio.to_thread(load_json, message["encoded"]), True

    async def _read_body(self, request: Request) -> bytes:
        limit = self._service.served.max_request_bytes
        if int(request.headers.get("content-length") or 0) > limit:
            raise HTTPException(413, f"body: must be at most {limit} bytes")
        parts, size = [], 0

        async def read() -> None:
            nonlocal size
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise HTTPException(413, f"body: must be at most {limit} bytes")
                parts.append(part)

        try:
            await asyncio.wait_for(read(), _BODY_SECONDS)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise HTTPException(408, f"body: must arrive within {_BODY_SECONDS:.0f} s") from error
        return b"".join(parts)


def _read_answer(message: Any) -> str:
    """How the client wants its answer: of OpenVLA-OFT's clients the chunk as a list, of others the first action."""
    if not isinstance(message, dict):
        return "action"
    answer = message.get("answer", "list" if "full_image" in message else "action")
    if answer not in ANSWERS:
        raise UserError(f"answer: must be one of {', '.join(ANSWERS)}, got {str(answer)[:40]!r}")
    return str(answer)


def _content(reply: Reply, message: Any, answer: str) -> Any:
    if answer == "all":
        return reply.fields(message)
    if answer == "list":
        return [*np.asarray(reply.actions)]
    return reply.actions if answer == "chunk" else reply.actions[0]


def _error(status: int, text: str) -> Response:
    headers = {401: {"www-authenticate": "Bearer"}, 503: {"retry-after": "1"}}.get(status)
    return JSONResponse({"error": text}, status, headers)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _error(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response
