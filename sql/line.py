"""A database connection with a deadline on every statement, enforced from outside the driver."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec
import psycopg
from psycopg.types.json import set_json_loads

from sql.connecting import ConnectError

ADDRESS_S = 4  # for each address of the host: a try that a dead network swallows ends within the longest back-off
CONNECT_S = 10.0


class DatabaseSilentError(psycopg.OperationalError):
    """No answer came within the deadline, and the connection was broken off; nobody knows what became of the call."""


class Statements(Protocol):
    """Whatever runs a statement and gives its rows."""

    async def fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement. Raises psycopg.Error."""


@contextlib.contextmanager
def deadline(connection: psycopg.AsyncConnection, seconds: float) -> Iterator[None]:
    """Break the connection when the block is not left within these seconds, so that whoever waits gets an error.

    It shuts down a duplicate of the socket: libpq keeps its own descriptor. Cancelling the waiting task is no
    substitute, since psycopg then asks the server to cancel, over a network that may be gone.

    Raises DatabaseSilentError when the time is up, and psycopg.OperationalError where the process has no descriptor
    left for the duplicate.
    """
    over = False
    with _twin(connection) as twin:

        def end() -> None:
            nonlocal over
            over = True
            _shut(twin)

        timer = asyncio.get_running_loop().call_later(seconds, end)
        try:
            yield
        except psycopg.Error as error:
            if over and error.sqlstate is None:
                raise DatabaseSilentError(f"no answer from the database within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()


def _twin(connection: psycopg.AsyncConnection) -> socket.socket:
    try:
        return socket.fromfd(connection.fileno(), socket.AF_UNSPEC, socket.SOCK_STREAM)
    except OSError as error:  # no file descriptor is left in this process
        raise psycopg.OperationalError(f"no deadline for the statement: {error}") from error


def _shut(twin: socket.socket) -> None:
    with contextlib.suppress(OSError):
        twin.shutdown(socket.SHUT_RDWR)


def cut(connection: psycopg.AsyncConnection) -> None:
    """Break a connection off: whoever waits for it gets an error at once."""
    with contextlib.suppress(psycopg.OperationalError), _twin(connection) as twin:
        _shut(twin)


async def connect(dsn: str, *, name: str) -> psycopg.AsyncConnection:
    """Open an autocommit connection that works behind any pooler.

    No `options=` start-up parameter and no prepared statements: a transaction-mode pooler refuses the one and mixes
    up the other. Raises ConnectError, also when the database does not answer in time.
    """
    try:
        async with asyncio.timeout(CONNECT_S):
            connection = await psycopg.AsyncConnection.connect(
                dsn,
                autocommit=True,
                prepare_threshold=None,
                application_name=name,
                client_encoding="utf8",
                connect_timeout=ADDRESS_S,
            )
    except (psycopg.Error, TimeoutError, UnicodeError) as error:
        failure = ConnectError.of(error, dsn)
    else:
        # jsonb is handed through as it is: Python's reader refuses integers of more than 4,300 digits
        set_json_loads(_raw, connection)
        return connection
    raise failure  # out here, for an error of psycopg quotes the string and must not become the context of ours


def _raw(text: str | bytes) -> msgspec.Raw:
    return msgspec.Raw(text.encode() if isinstance(text, str) else text)


class Line:
    """An open connection, with a deadline on every statement; who opened it closes it.

    Whoever is cancelled in the middle of a statement breaks the connection off.
    """

    def __init__(self, connection: psycopg.AsyncConnection, *, deadline_s: float) -> None:
        """Take the connection and the seconds that a statement may take."""
        self._connection = connection
        self._deadline_s = deadline_s

    async def fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows. Raises psycopg.Error."""
        running = asyncio.ensure_future(self._run(query, arguments))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # psycopg must not hear of it: it would ask the server to cancel, and wait for a network that may be gone
            cut(self._connection)
            await asyncio.gather(running, return_exceptions=True)
            raise

    async def _run(self, query: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        with deadline(self._connection, self._deadline_s):
            cursor = await self._connection.execute(query.encode(), arguments)
            return await cursor.fetchall() if cursor.description else []
