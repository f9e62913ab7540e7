"""Hears the notifications of one connection, and costs nothing while there are none."""

import asyncio
import contextlib
from collections.abc import Callable

import psycopg
from psycopg import sql

from sql.line import Connection, Line


class Ear:
    """Waits for the connection's socket by itself: psycopg's `notifies()` looks ten times a second.

    What arrives beside the answer to a statement is handed on by psycopg.
    """

    def __init__(self, connection: Connection, heard: Callable[[str], None]) -> None:
        """Call `heard` with the channel of each notification."""
        self._connection = connection
        self._heard = heard
        self._ended: asyncio.Future[None] | None = None
        connection.add_notify_handler(lambda notification: heard(notification.channel))

    async def listen(self, line: Line, channel: str) -> None:
        """Listen on a channel, by a statement over the same connection."""
        await line.fetch(sql.SQL("listen {}").format(sql.Identifier(channel)).as_string(self._connection))

    async def hear(self, seconds: float) -> None:
        """Hand on what comes within these seconds, or until `interrupt()`; no statement may run meanwhile.

        Raises psycopg.OperationalError when the connection is lost.
        """
        loop, socket = asyncio.get_running_loop(), self._connection.fileno()
        self._ended = loop.create_future()
        loop.add_reader(socket, self._read)
        self._read()  # what came with the last answer: the socket has no more of it
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._ended
        finally:
            loop.remove_reader(socket)

    def interrupt(self) -> None:
        """End `hear()` early."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _read(self) -> None:
        try:
            self._connection.pgconn.consume_input()
            while notification := self._connection.pgconn.notifies():
                self._heard(notification.relname.decode())
        except psycopg.OperationalError as error:
            if self._ended is not None and not self._ended.done():
                self._ended.set_exception(error)
