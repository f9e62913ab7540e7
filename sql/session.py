"""The connection of a process: opened when it is needed, shared in turn, dropped when it fails."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from sql.line import Line, connect, cut


class Session:
    """One connection, shared by the tasks of a process: one statement at a time, each within its deadline."""

    def __init__(self, dsn: str, *, name: str, deadline_s: float = 10.0) -> None:
        """Take the connection string and the application_name; nothing is opened yet."""
        self._dsn = dsn
        self._name = name
        self._deadline_s = deadline_s
        self._lock = asyncio.Lock()
        self._connection: psycopg.AsyncConnection | None = None
        self._is_cut = False

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
                line = Line(connection, deadline_s=self._deadline_s if deadline_s is None else deadline_s)
                return await line.fetch(query, arguments() if callable(arguments) else arguments)
            finally:
                if connection.broken or connection.closed:
                    await self._drop()

    async def warm(self) -> None:
        """Open the connection ahead of the first statement, which finds out by itself if the database is away."""
        with contextlib.suppress(psycopg.Error):
            await self.fetch("select 1")

    def cut(self) -> None:
        """Break the connection off: whoever waits for it gets an error at once, and the next call opens a new one."""
        if self._connection is not None:
            self._is_cut = True
            cut(self._connection)

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            await self._drop()

    async def _ready(self) -> psycopg.AsyncConnection:
        if self._is_cut:
            await self._drop()
        if self._connection is None:
            self._connection = await connect(self._dsn, name=self._name)
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection, self._is_cut = self._connection, None, False
        if connection is not None:
            await connection.close()
