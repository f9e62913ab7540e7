"""A database connection with a deadline on every statement, enforced from outside the driver."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import psycopg
from psycopg.abc import RV, PQGen
from psycopg.types.json import set_json_loads
from psycopg.waiting import Ready, Wait

from sql.connecting import ConnectError

ADDRESS_S = 4  # for each address of the host: a try that a dead network swallows ends within the longest back-off
CONNECT_S = 10.0


class DatabaseSilentError(psycopg.OperationalError):
    """No answer came within the deadline, and the connection was broken off; nobody knows what became of the call."""


class Statements(Protocol):
    """Whatever runs a statement and gives its rows."""

    async def fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement. Raises psycopg.Error."""


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection that can be broken off: whoever waits for it gets an error at once.

    One whose waiting task is cancelled is closed. psycopg would ask the server to cancel the statement, and wait for a
    network that may be gone; for its sake it also looks up ten times a second.
    """

    _waiting: asyncio.Future[int] | None = None
    _is_cut = False

    async def wait(self, gen: PQGen[RV], *_: object, **__: object) -> RV:
        """Run what psycopg has to do with the server to its end. Raises psycopg.OperationalError when it is cut."""
        try:
            state = next(gen)
            while True:
                ready = await self._ready(state)
                if self._is_cut:
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the connection was broken off")
                state = gen.send(ready)
        except StopIteration as end:
            answer: RV = end.value
            return answer
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise

    def cut(self) -> None:
        """Break it off."""
        if self._waiting is None:
            self.pgconn.finish()
            return
        self._is_cut = True  # libpq must not close what the loop still looks at
        _end(self._waiting, 0)

    async def _ready(self, state: int) -> int:
        """Wait until the socket is ready for what psycopg wants of it."""
        loop, number = asyncio.get_running_loop(), self.pgconn.socket
        waiting: asyncio.Future[int] = loop.create_future()
        self._waiting = waiting
        if state & Wait.R:
            loop.add_reader(number, _end, waiting, Ready.R)
        if state & Wait.W:
            loop.add_writer(number, _end, waiting, Ready.W)
        try:
            return await waiting
        finally:
            self._waiting = None
            loop.remove_reader(number)
            if state & Wait.W:
                loop.remove_writer(number)


def _end(waiting: asyncio.Future[int], ready: int) -> None:
    if not waiting.done():
        waiting.set_result(ready)


async def connect(dsn: str, *, name: str) -> Connection:
    """Open an autocommit connection that works behind any pooler.

    No `options=` start-up parameter and no prepared statements: a transaction-mode pooler refuses the one and mixes
    up the other. Raises ConnectError, also when the database does not answer in time.
    """
    cancelled = _cancelled()
    try:
        async with asyncio.timeout(CONNECT_S):
            connection = await Connection.connect(
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
        if _cancelled() > cancelled:  # psycopg before 3.3 waits with wait_for, which Python 3.11 lets lose it
            await connection.close()
            raise asyncio.CancelledError
        # jsonb is handed through as it is: Python's reader refuses integers of more than 4,300 digits
        set_json_loads(_raw, connection)
        return connection
    raise failure  # out here, for an error of psycopg quotes the string and must not become the context of ours


def _cancelled() -> int:
    """Return how many times it was asked to cancel whoever runs."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _raw(text: str | bytes) -> msgspec.Raw:
    return msgspec.Raw(text.encode() if isinstance(text, str) else text)


class Line:
    """An open connection, with a deadline on every statement; who opened it closes it.

    Whoever is cancelled in the middle of a statement breaks the connection off.
    """

    def __init__(self, connection: Connection, *, deadline_s: float) -> None:
        """Take the connection and the seconds that a statement may take."""
        self.connection = connection
        self._cursor = connection.cursor()  # kept, for what it knows of the arguments' types
        self._deadline_s = deadline_s

    async def fetch(
        self, query: str, arguments: Sequence[Any] = (), *, deadline_s: float | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement, within the line's deadline or another, and return its rows.

        Raises psycopg.Error; DatabaseSilentError when the time is up.
        """
        is_over, within_s = False, self._deadline_s if deadline_s is None else deadline_s

        def end() -> None:
            nonlocal is_over
            is_over = True
            self.connection.cut()

        timer = asyncio.get_running_loop().call_later(within_s, end)
        try:
            await self._cursor.execute(query.encode(), arguments)
            return await self._cursor.fetchall() if self._cursor.description else []
        except psycopg.Error as error:
            if is_over and error.sqlstate is None:
                raise DatabaseSilentError(f"no answer from the database within {within_s:g} s") from error
            raise
        finally:
            timer.cancel()
