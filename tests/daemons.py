"""A daemon process, and the jobs that it is given."""

import json
import socket
import uuid
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psycopg
from gateways import TOKEN
from programs import Program, run, until
from psycopg.rows import dict_row

NAME = "test"
LOOKED = (
    "select count(*) from pg_stat_activity where datname = current_database()"
    " and application_name like 'agent-daemon %' and state = 'idle' and query like '%agent_vault.pulse(%'"
)
QUIET = {"poll_s": 0, "pulse_s": 300}  # no poll, and the pulse at its longest: only what wakes by itself does


def environment(dsn: str, gateway_url: str, *, token: str = TOKEN, **settings: object) -> dict[str, str]:
    """What a daemon needs to start; settings go by the name behind DAEMON_, and pacing is off unless it is tested."""
    usual = {"name": NAME, "pacing": "off"}
    named = {f"DAEMON_{name.upper()}": str(value) for name, value in {**usual, **settings}.items()}
    return {"DATABASE_URL": dsn, "OPENCLAW_HOOK_TOKEN": token, "GATEWAY_HTTP_URL": gateway_url, **named}


def daemon(dsn: str, gateway_url: str, home: Path, **settings: Any) -> AbstractAsyncContextManager[Program]:
    """Run one."""
    return run("daemon", "run", env=environment(dsn, gateway_url, **settings), home=home)


async def idle(program: Program) -> None:
    """Wait until it listens."""
    await program.event("listener_up")


async def at_rest(database: psycopg.Connection) -> None:
    """Wait until a daemon that has delivered before looks for work in vain: its next claim is for what comes next."""
    await until(lambda: database.execute(LOOKED).fetchone() == (1,), "a look for work")


def insert(database: psycopg.Connection, count: int = 1, text: str = "hello", **columns: object) -> list[uuid.UUID]:
    """Put jobs in with one plain insert; their texts are numbered, unless there is a payload among the columns."""
    ids = [uuid.uuid4() for _ in range(count)]
    payload, kind = columns.pop("payload", None), columns.pop("type", "CHAT")
    rows = [
        (
            job_id,
            kind,
            json.dumps(payload if payload is not None else {"text": f"{text} {number}"}),
            *columns.values(),
        )
        for number, job_id in enumerate(ids)
    ]
    names = ", ".join(["id", "type", "payload", *columns])
    places = ", ".join([f"({', '.join(['%s'] * len(rows[0]))})"] * count)
    database.execute(f"insert into public.jobs ({names}) values {places}", [value for one in rows for value in one])
    return ids


def row(database: psycopg.Connection, job_id: uuid.UUID) -> dict[str, Any]:
    """One job as a dictionary."""
    cursor = database.cursor(row_factory=dict_row)
    found = cursor.execute("select * from public.jobs where id = %s", [job_id]).fetchone()
    assert found
    return found


def counts(database: psycopg.Connection) -> Counter[str]:
    """How many jobs have each status."""
    return Counter(dict(database.execute("select status, count(*) from public.jobs group by status").fetchall()))


async def become(database: psycopg.Connection, program: Program, **expected: int) -> None:
    """Wait until just so many jobs have these statuses; otherwise show what the program said."""
    try:
        await until(lambda: counts(database) == expected, f"{expected}")
    except AssertionError as error:
        raise AssertionError(f"{error} but {counts(database)}; it said:\n{program.text[-3000:]}") from None


def terminate(database: psycopg.Connection) -> int:
    """End every backend of every daemon from the server's side; return how many there were."""
    return len(
        database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'agent-daemon%'"
        ).fetchall()
    )


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
