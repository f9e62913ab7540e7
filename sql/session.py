"""One database connection: opened when it is needed, dropped when it fails, with a deadline on every statement."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg.types.json import set_json_loads

CONNECT_S = 10.0


@contextlib.contextmanager
def deadline(connection: psycopg.AsyncConnection, seconds: float) -> Iterator[None]:
    """Break the connection when the block is not left within these seconds, so that whoever waits gets an error.

    It shuts down a duplicate of the socket: libpq keeps its own descriptor. Cancelling the waiting task is no
    substitute, since psycopg then asks the server to cancel, over a network that may be gone.

    Raises psycopg.OperationalError where the process has no descriptor left for the duplicate.
    """
    try:
        twin = socket.fromfd(connection.fileno(), socket.AF_UNSPEC, socket.SOCK_STREAM)
    except OSError as error:  # no file descriptor is left in this process
        raise psycopg.OperationalError(f"no deadline for the statement: {error}") from error

    def end() -> None:
        with contextlib.suppress(OSError):
            twin.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        yield
    finally:
        timer.cancel()
        twin.close()


async def connect(dsn: str, *, name: str) -> psycopg.AsyncConnection:
    """Open an autocommit connection that works behind any pooler.

    No `options=` start-up parameter and no prepared statements: a transaction-mode pooler refuses the one and mixes
    up the other. Raises psycopg.OperationalError, also when the database does not answer in time.
    """
    try:
        async with asyncio.timeout(CONNECT_S):
            connection = await psycopg.AsyncConnection.connect(
                dsn, autocommit=True, prepare_threshold=None, application_name=name, client_encoding="utf8"
            )
    except TimeoutError as error:
        raise psycopg.OperationalError(f"no answer from the database within {CONNECT_S:.0f} s") from error
    except UnicodeError as error:  # Python's, of a host name that no resolver takes
        raise psycopg.OperationalError(f"the connection string has a host that cannot be: {error}") from error
    # jsonb is handed through as it is: Python's reader refuses integers of more than 4,300 digits
    set_json_loads(_raw, connection)
    return connection


def _raw(text: str | bytes) -> msgspec.Raw:
    return msgspec.Raw(text.encode() if isinstance(text, str) else text)


class Session:
    """One connection, shared by the tasks of a process: one statement at a time, each within its deadline."""

    def __init__(self, dsn: str, *, name: str, deadline_s: float = 10.0) -> None:
        """Take the connection string and the application_name; nothing is opened yet."""
        self._dsn = dsn
        self._name = name
        self._deadline_s = deadline_s
        self._lock = asyncio.Lock()
        self._connection: psycopg.AsyncConnection | None = None

    async def fetch(
        self,
        query: str,
        arguments: Sequence[Any] | Callable[[], Sequence[Any]] = (),
        *,
        deadline_s: float | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run one statement, within the session's deadline or another, and return its rows.

        Arguments that change with time are given as a function, called when the statement goes out.

        Raises psycopg.Error; after an error of the connection the next call opens a new one.
        """
        async with self._lock:
            connection = await self._ready()
            try:
                with deadline(connection, self._deadline_s if deadline_s is None else deadline_s):
                    values = arguments() if callable(arguments) else arguments
                    cursor = await connection.execute(query.encode(), values)
                    return await cursor.fetchall()
            finally:
                if connection.broken or connection.closed:
                    await self._drop()

    async def warm(self) -> None:
        """Open the connection ahead of the first statement, which finds out by itself if the database is away."""
        with contextlib.suppress(psycopg.Error):
            await self.fetch("select 1")

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            await self._drop()

    async def _ready(self) -> psycopg.AsyncConnection:
        if self._connection is None:
            self._connection = await connect(self._dsn, name=self._name)
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
