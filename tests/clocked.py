"""A database whose time the test lets pass, and whose calls are made one moment at a time."""

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from names_model import Holder
from queue_model import LEASE_LOST, Row, seconds

from sql.jobs import LeaseLostError
from sql.names import NameTakenError

NAME_TAKEN = "the name is taken"
ROWS = (
    "select id, queue, max_attempts, created_at, run_at, status, attempts, claims, lapses, fenced, locked_by,"
    " lease_until, outcome, awaits_handling, delivered_at is not null, learning_id, finished_at is not null"
    " from public.jobs"
)

T = TypeVar("T")

Claim = tuple[UUID, int, datetime | None]  # the job, the claim's number and its time, where it shows one


class Calls:
    """What the typed calls need of a session, over a connection that blocks."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Take the connection."""
        self.connection = connection

    async def fetch(
        self, query: str, arguments: Sequence[Any] | Callable[[], Sequence[Any]] = ()
    ) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        cursor = self.connection.execute(query, arguments() if callable(arguments) else arguments)
        return cursor.fetchall() if cursor.description else []


def run(call: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a call of the model waited")


class ClockedDatabase:
    """The test's database.

    Its real clock runs on; what passed on top of that is taken off all times in its rows, and added to all times that
    are read from it. Within a call the database's now() stands still, so its answers are exact.
    """

    def __init__(self, dsn: str) -> None:
        """Connect, and install what the model needs."""
        self.dsn = dsn
        self.passed = timedelta()
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.connection.execute(Path(__file__).with_name("sql").joinpath("probe.sql").read_text("utf-8"))

    def clear(self) -> None:
        """Forget all jobs and names."""
        self.passed = timedelta()
        self.connection.execute(
            "delete from public.jobs; delete from public.agent_learnings; delete from agent_vault.daemons"
        )

    def close(self) -> None:
        """Disconnect."""
        self.connection.close()

    def session(self) -> psycopg.Connection:
        """Open a session of a daemon's own."""
        return psycopg.connect(self.dsn, autocommit=True)

    def end(self, session: psycopg.Connection) -> None:
        """End a session; its locks go with it, which the server may do a little later unless it is told to."""
        session.execute("select pg_advisory_unlock_all()")
        session.close()

    def begin(self, session: psycopg.Connection) -> datetime:
        """Begin a call, and return the moment at which it is made."""
        session.execute("begin")
        return self.shown(session.execute("select now()").fetchone()[0])

    def finish(self, session: psycopg.Connection, call: Coroutine[Any, Any, T], *, is_forgotten: bool) -> T | str:
        """Make the call and return its answer, or how it was refused; a crash may forget all of it."""
        try:
            answer = run(call)
        except LeaseLostError:
            session.execute("rollback")
            return LEASE_LOST
        except NameTakenError:
            session.execute("commit")
            return NAME_TAKEN
        session.execute("rollback" if is_forgotten else "commit")
        return answer

    def now(self) -> datetime:
        """The time, while it passes."""
        return self.shown(self.connection.execute("select clock_timestamp()").fetchone()[0])

    def pass_time(self, number: float) -> None:
        """Let so many seconds pass."""
        self.connection.execute("select probe.pass_time(%s)", [number])
        self.passed += seconds(number)

    def insert(self, job_id: UUID, queue: str, max_attempts: int, learning_id: UUID | None = None) -> None:
        """Put a job in, as an Edge Function does, with a learning where it has one."""
        query = "insert into public.jobs (id, type, queue, max_attempts, learning_id) values (%s, 'X', %s, %s, %s)"
        self.connection.execute(query, [job_id, queue, max_attempts, learning_id])

    def learn(self, learning_id: UUID) -> None:
        """Put a learning in."""
        query = "insert into public.agent_learnings (id, learning) values (%s, 'X')"
        self.connection.execute(query, [learning_id])

    def handled(self) -> dict[UUID, str | None]:
        """How each learning was handled, and so far how not."""
        return dict(self.connection.execute("select id, handled_how from public.agent_learnings").fetchall())

    def rows(self) -> dict[UUID, Row]:
        """Every job as it stands."""
        return {job_id: Row(*map(self.shown, columns)) for job_id, *columns in self.connection.execute(ROWS)}

    def holders(self) -> dict[str, Holder]:
        """Every name and its holder."""
        rows = self.connection.execute("select name, instance, locked, seen_at from agent_vault.daemons")
        return {name: Holder(worker, locked, self.shown(seen_at)) for name, worker, locked, seen_at in rows}

    def can_settle(self, claims: Sequence[Claim]) -> set[tuple[Claim, str]]:
        """Which of these claims could be settled now, and by which calls."""
        query = "select place, call from probe.can_settle(%s, %s, %s)"
        ids, numbers = [one[0] for one in claims], [one[1] for one in claims]
        times = [None if one[2] is None else self.stored(one[2]) for one in claims]
        return {(claims[place - 1], call) for place, call in self.connection.execute(query, [ids, numbers, times])}

    def count_stuck(self) -> int:
        """How many jobs would stay unfinished if only time and a living worker went on."""
        return self.connection.execute("select probe.count_stuck()").fetchone()[0]

    def stored(self, time: datetime) -> datetime:
        """A time as the test counts it, as the database has it."""
        return time - self.passed

    def shown(self, value: T) -> T:
        """A time of the database's, as the test counts it, or any other value as it is."""
        return value + self.passed if isinstance(value, datetime) else value
