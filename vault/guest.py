"""One connection of anybody's: how long it may take for a request, and what it is told of one that is none."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, cast

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from vault.answer import Answer
from vault.gate import Gate
from vault.signature import Headers

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]
KEPT_ALIVE_S = 75.0  # longer than the minute for which proxies keep a connection of theirs
LINGERING_S = 5.0  # to read on after a refusal, so that the answer is not lost with the reset


class Receiver(Protocol):
    """Answers the requests of one path."""

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, whose body may still be coming."""

    def receive_whole(self, headers: Headers, body: bytes, tell: Callable[[Answer], None]) -> None:
        """Answer a request whose body came with its head, by one call of `tell`, now or later."""


Direct = Mapping[tuple[str, str], Receiver]


class Guest(web.RequestHandler):
    """aiohttp's own connection, with a limit of time for the head of a request, and known to the gate."""

    def __init__(self, server: web.Server, gate: Gate, head_s: float, direct: Direct, **kwargs: Any) -> None:
        """Take the server that answers, the gate, and within how many seconds a request's head must be there.

        `direct` answers, by method and path, what need not go through the application, whose router and middlewares are
        a third of what aiohttp does for a request.
        """
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, keepalive_timeout=KEPT_ALIVE_S, lingering_time=LINGERING_S, **kwargs)
        self._request_handler = self._answer
        self._to_application = server.request_handler
        self._direct = direct
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
        """Wait for the rest of a request's head."""
        try:
            super().data_received(data)
        except ValueError:  # of aiohttp's parser in Python, on a length of more digits than int() takes
            self.drop()
        if not self._answering and (self._paused or not self._messages):  # whoever sends but does not read, goes too
            self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave the gate."""
        self.begin()  # nothing is waited for
        self._gate.leave(self)
        super().connection_lost(exc)

    def hold(self, more_bytes: int) -> None:
        """Count so much more of its body, which is held in memory."""
        self._gate.hold(self, more_bytes)

    def whole(self) -> None:
        """End the wait for the request."""
        self._gate.whole(self)

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

    def begin(self) -> None:
        """Take a request for one that has come."""
        self._answering = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Take its answer for the beginning of the wait for the next."""
        # without limit of time before the first byte of the next but the server's keep-alive
        self._answering = False
        self._gate.whole(self)
        self._gate.wait(self)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.begin()
        if not request.can_read_body:
            self.whole()
        try:
            return await self._answer_to(request)
        finally:
            self.end()

    async def _answer_to(self, request: web.BaseRequest) -> web.StreamResponse:
        # before aiohttp looks at it, which quotes what it does not know and stumbles over bytes that are no text
        expected = request.headers.get(hdrs.EXPECT)
        if expected is not None:
            if expected.lower() != "100-continue":
                return refusal(HTTPStatus.EXPECTATION_FAILED)
            return await self._to_application(request)
        directly = self._direct.get((request.method, request.raw_path))
        if directly is None:
            return await self._to_application(request)
        return misread(request) or await directly.receive(cast("web.Request", request))

    def _expect_head(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._head_s, self.drop)


def misread(request: web.BaseRequest) -> web.Response | None:
    """Return the refusal of a request that a proxy may have read in another way than aiohttp does."""
    if request.version not in (HttpVersion10, HttpVersion11):
        return _closing(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if not _has_one_length(request):
        return _closing(HTTPStatus.BAD_REQUEST)
    return None


def _has_one_length(request: web.BaseRequest) -> bool:
    """Tell whether every proxy sees the body end where aiohttp does, who also takes gzip, and chunks from HTTP/1.0."""
    codings = request.headers.getall(hdrs.TRANSFER_ENCODING, None)
    return not codings or ([coding.lower() for coding in codings] == ["chunked"] and request.version == HttpVersion11)


def _closing(status: HTTPStatus) -> web.Response:
    answer = refusal(status)
    answer.force_close()
    return answer


def refusal(status: int) -> web.Response:
    """Return the answer of a status, with nothing of the request in it."""
    return Answer.of_status(HTTPStatus(status)).as_response()


def guest_of(request: web.Request) -> Guest | None:
    """Return the connection of a request; None in a server that is not the vault's own."""
    return request.protocol if isinstance(request.protocol, Guest) else None
