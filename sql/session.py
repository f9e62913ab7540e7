"""The connection of a process: opened when it is needed, shared in turn, dropped when it fails."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from sql.line import Line, connect


class Session:
    """One connection, shared by the tasks of a process: one statement at a time, each within its deadline."""

    def __init__(self, dsn: str, *, name: str, deadline_s: float = 10.0) -> None:
        """Take the connection string and the application_name; nothing is opened yet."""
        self._dsn = dsn
        self._name = name
        self._deadline_s = deadline_s
        self._lock = asyncio.Lock()
        self._line: Line | None = None

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
            line = await self._ready()
            try:
                values = arguments() if callable(arguments) else arguments
                return await line.fetch(query, values, deadline_s=deadline_s)
            finally:
                if line.connection.closed:
                    await self._drop()

    async def warm(self) -> None:
        """Open the connection ahead of the first statement, which finds out by itself if the database is away."""
        with contextlib.suppress(psycopg.Error):
            await self.fetch("select 1")

    def cut(self) -> None:
        """Break the connection off: whoever waits for it gets an error at once, and the next call opens a new one."""
        if self._line is not None:
            self._line.connection.cut()

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            await self._drop()

    async def _ready(self) -> Line:
        if self._line is None or self._line.connection.closed:
            self._line = Line(await connect(self._dsn, name=self._name), deadline_s=self._deadline_s)
        return self._line

    async def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.connection.close()
