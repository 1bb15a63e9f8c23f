"""The WebSocket side of a served policy: msgpack, one answer for each message, as openpi's clients speak it."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from vla.errors import UserError
from vla.serving.policy_server.access import is_allowed, is_own_origin
from vla.serving.policy_server.batching import BusyError, PredictionError, StoppingError
from vla.serving.policy_server.contract import ContractError
from vla.serving.policy_server.service import PolicyService
from vla.serving.policy_server.wire import dump_msgpack, load_msgpack

POLICY_VIOLATION, TRY_LATER = 1008, 1013


class PolicySocket:
    """
    The endpoint. Metadata goes out first; an error is a frame of text, after which the client may go on, but not after
    one about its contract.

    Args:
        service: answers.
        token: what clients must know; None: anybody may ask.
    """

    def __init__(self, service: PolicyService, token: str | None) -> None:
        self._service, self._token = service, token
        self._open = 0

    async def serve(self, socket: WebSocket) -> None:
        """A connection, from its beginning to its end."""
        if not is_allowed(socket.headers, self._token) or not is_own_origin(socket.headers):
            await socket.close(POLICY_VIOLATION)  # before it is accepted: the client sees status 403
            return
        if self._open >= self._service.config.max_connections:
            await socket.close(TRY_LATER)
            return
        await socket.accept()
        self._open += 1
        client = f"{socket.client.host}:{socket.client.port}" if socket.client else "websocket"
        self._service.metrics.sockets.set(self._open)
        try:
            await socket.send_bytes(dump_msgpack(self._service.served.metadata()))
            while await self._exchange(socket, client):
                pass
        except (WebSocketDisconnect, RuntimeError):  # starlette's words for a client that has left while we answered
            pass
        finally:
            self._open -= 1
            self._service.metrics.sockets.set(self._open)

    async def _exchange(self, socket: WebSocket, client: str) -> bool:
        """One message and its answer; returns whether the connection goes on."""
        received = await socket.receive()
        if received["type"] == "websocket.disconnect":
            return False
        with self._service.busy():
            data = received.get("bytes")
            if data is None:
                await socket.send_text("message: must be a binary frame of msgpack, got text")
                return True
            try:
                message = await asyncio.to_thread(load_msgpack, data)
                await socket.send_bytes(dump_msgpack(await self._answer(message, client)))
            except ContractError as error:
                await socket.send_text(str(error))
                await socket.close(POLICY_VIOLATION)
                return False
            except (UserError, BusyError, StoppingError, PredictionError) as error:
                await socket.send_text(str(error))
        return True

    async def _answer(self, message: Any, client: str) -> dict[str, Any]:
        if isinstance(message, dict) and set(message) == {"contract"}:
            self._service.served.check(message["contract"])
            return {"fits": True}
        return (await self._service.answer(message, "websocket", client)).fields(message)
