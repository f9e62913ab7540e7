"""A connection that answers a webhook which came in one piece at once, past aiohttp's objects and tasks."""

import asyncio
from http import HTTPStatus
from typing import Any, Final

from aiohttp import HttpVersion11, StreamReader, hdrs
from aiohttp.http_parser import RawRequestMessage

from vault.answer import Answer
from vault.guest import Guest

ELSEWHERE: Final = (hdrs.EXPECT, hdrs.TRANSFER_ENCODING)


class Express(Guest):
    """A guest whose plain requests of some paths are answered by a call: no task, no request and no response object.

    Each connection has a task of aiohttp's (`RequestHandler.start`), which waits for `_waiter` and then takes one of
    `_messages`, parsed by aiohttp, and answers it. While it waits, and one message is there that is as it should be,
    this takes it instead, and keeps the task's future until it is answered: whatever comes meanwhile waits behind it.
    All else goes the task's way.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what a guest takes."""
        super().__init__(*args, **kwargs)
        self._held: asyncio.Future[None] | None = None  # aiohttp's, while a request is answered here

    def data_received(self, data: bytes) -> None:
        """Let aiohttp parse it, and its task sleep for now."""
        waiter, self._waiter = self._waiter, None
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        if waiter is None or waiter.done() or not self._messages:
            return
        if not self._take(*self._messages[0]):
            waiter.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let aiohttp's task end; storing what was taken goes on."""
        if self._waiter is not None and self._waiter.done() and self._task_handler is not None:
            self._task_handler.cancel()  # woken by an answer for the next request, it would find nobody to give it to
        self._give_back()
        super().connection_lost(exc)

    def _take(self, message: Any, payload: StreamReader) -> bool:
        """Have a request answered here, or return that it is for aiohttp's task."""
        if (
            len(self._messages) > 1
            or self._paused  # the client does not read: aiohttp's task answers once more, and then waits until it does
            or not isinstance(message, RawRequestMessage)
            or not payload.is_eof()
            or message.version != HttpVersion11
            or message.should_close
            or message.upgrade
            or any(name in message.headers for name in ELSEWHERE)
        ):
            return False
        receiver = self._direct.get((message.method, message.path))
        if receiver is None or self._parser is None:
            return False
        self._messages.popleft()
        self._parser.message_consumed()
        self._held, self._waiter = self._waiter, None
        self.begin()
        self.whole()
        try:
            receiver.receive_whole(message.headers, payload.read_nowait(), self._tell)
        except Exception as error:  # noqa: BLE001 - as aiohttp does for a handler
            self.log_exception("a webhook failed", exc_info=error)
            self._tell(Answer.of_status(HTTPStatus.INTERNAL_SERVER_ERROR))
        return True

    def _tell(self, answer: Answer) -> None:
        """Send the answer, and let aiohttp's task go on waiting."""
        if self._held is None:  # the client is gone
            return
        try:
            if self.transport is not None:
                self.transport.write(answer.as_bytes())
        finally:
            self.end()
            self._keep_alive()
            self._give_back()
        if self._waiter is not None and not self._waiter.done():
            if self._close or self._force_close:  # the vault ends, and waits for the task
                self._waiter.cancel()
            elif self._messages:
                self._waiter.set_result(None)

    def _keep_alive(self) -> None:
        """Begin the time that it may stay idle; aiohttp's own timer looks for it when it is over."""
        self._next_keepalive_close_time = until = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(until, self._process_keepalive)

    def _give_back(self) -> None:
        if self._held is not None:
            self._waiter, self._held = self._held, None
