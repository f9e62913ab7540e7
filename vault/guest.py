"""One connection of anybody's: how long it may take for a request, and what it is told of one that is none."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from aiohttp import hdrs, web

from vault.gate import Gate

KEPT_ALIVE_S = 75.0  # longer than the minute for which proxies keep a connection of theirs
LINGERING_S = 5.0  # to read on after a refusal, so that the answer is not lost with the reset


class Guest(web.RequestHandler):
    """aiohttp's own connection, with a limit of time for the head of a request, and known to the gate."""

    def __init__(self, server: web.Server, gate: Gate, head_s: float, **kwargs: Any) -> None:
        """Take the server that answers, the gate, and within how many seconds a request's head must be there."""
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, keepalive_timeout=KEPT_ALIVE_S, lingering_time=LINGERING_S, **kwargs)
        # before aiohttp looks at it, which quotes what it does not know and stumbles over bytes that are no text
        self._request_handler = partial(_expecting, server.request_handler)
        self._gate = gate
        self._head_s = head_s
        self._timer: asyncio.TimerHandle | None = None
        self._answering = False
        self._connection: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._connection = cast("asyncio.Transport", transport)  # uvloop's is none by its class, and has all of it
        self._expect_head()
        self._gate.enter(self)

    def data_received(self, data: bytes) -> None:
        """Wait for a request's head from its first byte on."""
        if not self._answering:
            self._expect_head()
        try:
            super().data_received(data)
        except ValueError:  # of aiohttp's parser in Python, on a length of more digits than int() takes
            self.drop()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave the gate."""
        self._head_came()
        self._gate.leave(self)
        super().connection_lost(exc)

    def begin(self, *, whole: bool) -> None:
        """End the wait for a request's head, and where it has no body, for the request."""
        self._answering = True
        self._head_came()
        if whole:
            self.whole()

    def hold(self, more_bytes: int) -> None:
        """Count so much more of its body, which is held in memory."""
        self._gate.hold(self, more_bytes)

    def whole(self) -> None:
        """End the wait for the request."""
        self._gate.whole(self)

    def answered(self) -> None:
        """Wait for the next request, without limit of time before its first byte but the server's keep-alive."""
        self._answering = False
        self._gate.whole(self)
        self._gate.wait(self)

    def drop(self) -> None:
        """Close it at once, whatever was to be sent: who does not read its answer must not stay either."""
        if self._connection is not None:
            self._connection.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer with the status alone: aiohttp's own text quotes the request."""
        super().handle_error(request, status, exc, message)
        answer = refusal(status)
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; for one that aiohttp raised, which may quote the request, that of its status."""
        told = refusal(resp.status) if isinstance(resp, web.HTTPException) else resp
        return await super().finish_response(request, told, start_time)

    def _expect_head(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._head_s, self.drop)

    def _head_came(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _expecting(
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], request: web.BaseRequest
) -> web.StreamResponse:
    """Answer a request that expects nothing, or to be told to go on with its body."""
    expected = request.headers.get(hdrs.EXPECT)
    if expected is not None and expected.lower() != "100-continue":
        return refusal(HTTPStatus.EXPECTATION_FAILED)
    return await answer(request)


def refusal(status: int) -> web.Response:
    """Return the answer of a status, with nothing of the request in it."""
    body = json.dumps({"error": HTTPStatus(status).phrase.lower()})
    return web.Response(status=status, text=body, content_type="application/json")


def guest_of(request: web.Request) -> Guest | None:
    """Return the connection of a request; None in a server that is not the vault's own."""
    return request.protocol if isinstance(request.protocol, Guest) else None
