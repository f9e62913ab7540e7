"""The programs as processes, each with a login that may do no more than it must."""

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import letters
import psycopg
import pytest
from daemons import counts, daemon, environment, idle, insert, row
from deliveries import KEY, SECRET, WEBHOOK, sample
from gateways import FakeGateway, gateway
from programs import run as run_program
from programs import until
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sql.migrate import migrate
from sql.session import Session
from vault.sender import signed_headers

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def owner(blank_dsn: str) -> str:
    """The DSN of a migrated database's owner; it is no copy, so that it has roles."""
    migrate(blank_dsn)
    return blank_dsn


@pytest.fixture
def database(owner: str) -> Iterator[psycopg.Connection]:
    """The owner's autocommit connection."""
    with psycopg.connect(owner, autocommit=True) as connection:
        yield connection


@pytest.fixture
def name() -> str:
    """The name of a daemon and its login, which no other test has on this server."""
    return f"mac-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def fake() -> AsyncIterator[FakeGateway]:
    """A gateway that accepts everything until told otherwise."""
    async with gateway() as one:
        yield one


@pytest.fixture
def granted(run: Run, owner: str, name: str) -> Iterator[str]:
    """The string that `agent-vault grant` printed, for the queue mail."""
    done = run("grant", "daemon", name, "--queue", "mail", DATABASE_URL=owner)
    assert (0, 1) == (done.returncode, len(done.stdout.splitlines()))
    assert f"DAEMON_NAME to {name} and DAEMON_QUEUES to mail" in done.stderr
    yield done.stdout.strip()
    run("revoke", "daemon", name, DATABASE_URL=owner)


@contextlib.contextmanager
def login_with(run: Run, owner: str, kind: str) -> Iterator[str]:
    """Have a login of a kind granted, and give its DSN; it is revoked at the end, and opens nothing any more."""
    login = f"{kind}_{uuid.uuid4().hex[:8]}"
    done = run("grant", kind, login, DATABASE_URL=owner)
    assert (0, 1) == (done.returncode, len(done.stdout.splitlines()))
    assert f"the login {login} is made; its connection string is shown this once" in done.stderr
    yield done.stdout.strip()
    done = run("revoke", kind, login, DATABASE_URL=owner)
    assert (0, f"the login {login} is gone\n", "") == (done.returncode, done.stdout, done.stderr)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(make_conninfo(owner, user=login))


def events(dsn: str, home: Path, *arguments: str, queues: str = "mail") -> subprocess.CompletedProcess[str]:
    """Run `agent-daemon events`."""
    return subprocess.run(
        [sys.executable, "-m", "daemon", "events", *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "DATABASE_URL": dsn, "DAEMON_QUEUES": queues},
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


async def test_a_granted_daemon_delivers_what_is_its_own(
    granted: str, owner: str, database: psycopg.Connection, fake: FakeGateway, name: str, tmp_path: Path
) -> None:
    """It listens, delivers its queue's events, and lists, shows and acknowledges them; another queue's stay."""
    session = Session(owner, name="test")
    mine, other = await letters.record(session, letters.event("m", queue="mail"), letters.event("d"))
    async with daemon(granted, fake.url, tmp_path, name=name, queues="mail") as program:
        await idle(program)
        await until(lambda: counts(database) == {"done": 1, "queued": 1})
        (later,) = await letters.record(session, letters.event("n", queue="mail"))
        await until(lambda: counts(database) == {"done": 2, "queued": 1})
        assert 2 == len(fake.wakes)
        assert 0 == await program.stop()
    await session.close()
    listed = events(granted, tmp_path, "list", "--json")
    assert (0, True, True, False) == (
        listed.returncode,
        *(str(one) in listed.stdout for one in (mine, later, other)),
    )
    shown = events(granted, tmp_path, "show", str(mine))
    assert (0, True) == (shown.returncode, "canary" in shown.stdout)
    assert 0 == events(granted, tmp_path, "ack", str(later)).returncode
    for command in ("show", "ack"):
        assert 0 != events(granted, tmp_path, command, str(other)).returncode
    refused = events(granted, tmp_path, "list", queues="default")
    assert (1, "") == (refused.returncode, refused.stdout)
    assert f"{name}" in refused.stderr
    assert "has the queue(s) mail alone: set DAEMON_QUEUES to these" in refused.stderr
    assert ["read", "acknowledged", None] == [
        letters.learning(database, one)["handled_how"] for one in (mine, later, other)
    ]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [({"name": "mini"}, "set DAEMON_NAME to "), ({"queues": "mail,default"}, "set DAEMON_QUEUES to these")],
)
async def test_a_daemon_that_is_set_up_for_another_is_told(
    granted: str, fake: FakeGateway, name: str, tmp_path: Path, setting: dict[str, str], expected: str
) -> None:
    """Another's name or queue is said in the log with its remedy; nothing is claimed."""
    async with daemon(granted, fake.url, tmp_path, **{"name": name, "queues": "mail", **setting}) as program:
        lost = await program.event("listener_lost")
        assert expected in lost["error"]
        assert 0 == await program.stop()
    assert [] == [line for line in program.events if line["event"] == "job_claimed"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({}, "ok     login: it may be {name}, and deliver from mail"),
        ({"name": "mini"}, 'WRONG  login: the login "{name}" is that of one daemon: set DAEMON_NAME to {name}'),
        (
            {"queues": "default"},
            'WRONG  login: the login "{name}" has the queue(s) mail alone: set DAEMON_QUEUES to these',
        ),
    ],
)
def test_doctor_says_whose_the_login_is(
    granted: str, name: str, tmp_path: Path, setting: dict[str, str], expected: str
) -> None:
    """Before a daemon is started in vain."""
    env = environment(granted, "http://127.0.0.1:1", **{"name": name, "queues": "mail", **setting})
    done = subprocess.run(
        [sys.executable, "-m", "daemon", "doctor"],
        env={"HOME": str(tmp_path), **env},
        check=False,
        capture_output=True,
        text=True,
    )
    (said,) = [line for line in done.stdout.splitlines() if "  login: " in line]
    assert said.startswith(expected.format(name=name))


async def test_a_revoked_daemon_loses_what_it_had(
    granted: str, run: Run, owner: str, database: psycopg.Connection, fake: FakeGateway, name: str, tmp_path: Path
) -> None:
    """In the middle of a delivery: its job is due again at once, and it can neither end it nor come back."""
    fake.held.clear()
    (job_id,) = insert(database, queue="mail")
    async with daemon(granted, fake.url, tmp_path, name=name, queues="mail") as program:
        await until(lambda: fake.posts)
        done = run("revoke", "daemon", name, DATABASE_URL=owner)
        assert (0, f"the login {name} is gone; jobs given back: 1\n") == (done.returncode, done.stdout)
        fake.held.set()
        await program.event("listener_lost")
        back = row(database, job_id)
        assert ("queued", 0, None) == (back["status"], back["attempts"], back["locked_by"])
        assert 0 == await program.stop()
    assert "queued" == row(database, job_id)["status"]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(granted)
    again = run("revoke", "daemon", name, DATABASE_URL=owner)
    assert (1, f"agent-vault: no daemon named {name} has a login: none was granted\n") == (
        again.returncode,
        again.stderr,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["grant", "daemon", "Mac Book"], "is no name for a login"),
        (["grant", "daemon", 'a"; drop table jobs; --'], "is no name for a login"),
        (["grant", "daemon", "pg_mac"], "is no name for a login"),
        (["grant", "daemon", "mac", "--queue", "a b"], "is no queue"),
        (["grant", "daemon", "{user}"], "a role named {user} is there already"),
        (["revoke", "daemon", "{user}"], "no daemon named {user} has a login"),
        (["grant", "server", "{user}"], "a role named {user} is there already, and no server's of this vault"),
        (["revoke", "operator", "{user}"], "no operator named {user} has a login: none was granted"),
    ],
)
def test_mistakes_are_told(run: Run, owner: str, arguments: list[str], expected: str) -> None:
    """A wrong name says what a right one is, and nothing is made."""
    user = str(conninfo_to_dict(owner)["user"])
    done = run(*(word.format(user=user) for word in arguments), DATABASE_URL=owner)
    assert "" == done.stdout
    assert expected.format(user=user) in done.stderr


def test_before_migrate_it_says_so(run: Run, blank_dsn: str, name: str) -> None:
    """There is nothing to grant in an empty database."""
    done = run("grant", "daemon", name, DATABASE_URL=blank_dsn)
    assert (1, "") == (done.returncode, done.stdout)
    assert "run agent-vault migrate" in done.stderr


async def check_api(client: aiohttp.ClientSession, learning: str) -> None:
    """Use every page of the API once."""
    for page in (f"get?id={learning}", "list", "search?q=Composio"):
        async with client.get(f"/learnings/{page}") as response:
            assert (200, True) == (response.status, learning in await response.text())
    async with client.post("/learnings/ack", json={"id": learning}) as response:
        assert {"ok": True, "count": 1} == await response.json()
    async with client.post("/jobs/next", json={"agentId": "old"}) as response:
        job = (await response.json())["job"]
    async with client.post("/jobs/ack", json={"jobId": job["id"], "status": "done"}) as response:
        assert {"ok": True} == await response.json()


async def test_the_vault_runs_as_a_server(owner: str, database: psycopg.Connection, run: Run, tmp_path: Path) -> None:
    """It takes a delivery, serves its API, queues what got no job and deletes what is old, with no right on a table."""
    session = Session(owner, name="test")
    (unqueued,) = await letters.record_refused(session, database, letters.event("refused"))
    old = letters.dead(database, status="done", finished_at="40 days")
    (aged,) = await letters.record(session, letters.event("aged"))
    await session.close()
    database.execute("update public.jobs set status = 'done' where learning_id = %s", [aged])
    letters.age(database, "agent_learnings", aged, "40 days")
    with login_with(run, owner, "server") as dsn:
        with psycopg.connect(dsn) as login, pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute("select from public.jobs")
        settings = {
            "DATABASE_URL": dsn,
            "COMPOSIO_WEBHOOK_SECRET": SECRET,
            "AGENT_EDGE_KEY": KEY,
            "VAULT_PORT": "0",
            "VAULT_PRUNE_LEARNINGS_AFTER_DAYS": "7",
        }
        async with run_program("vault", "serve", env=settings, home=tmp_path) as program:
            port = (await program.event("vault_listening"))["port"]
            await program.event("learnings_queued", count=1)
            await program.event("pruned", what="done", count=1)
            await program.event("pruned", what="learnings", count=1)
            key = {"Authorization": f"Bearer {KEY}"}
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=key) as client:
                body = sample()
                signed = signed_headers(SECRET, "msg_server", int(time.time()), body)
                async with client.post(WEBHOOK, data=body, headers=signed) as response:
                    assert 200 == response.status
                    learning = (await response.json())["learning_id"]
                await check_api(client, learning)
            assert 0 == await program.stop()
    assert [None, None] == [letters.job(database, old), letters.learning(database, aged)]
    assert ["done"] == [one["status"] for one in letters.jobs_of(database, unqueued)]
    assert [] == [line for line in program.events if line["level"] in {"warning", "error", "critical"}]


async def test_a_person_works_as_an_operator(owner: str, database: psycopg.Connection, run: Run) -> None:
    """Dead letters are listed, shown, retried and cancelled, and events replayed, with no right on a table."""
    session = Session(owner, name="test")
    await letters.record(session, letters.event("one"))
    await session.close()
    dead = letters.dead(database)
    with login_with(run, owner, "operator") as dsn:
        for arguments in (
            ["--json"],
            ["show", str(dead), "--payload"],
            ["retry", str(dead)],
            ["cancel", str(dead)],
            ["retry", "--type", "*", "--yes"],
            ["replay", "--since", "1h", "--yes"],
        ):
            done = run("jobs", *arguments, DATABASE_URL=dsn)
            assert (0, "") == (done.returncode, done.stderr), arguments
        assert 3 == sum(counts(database).values())
        with psycopg.connect(dsn) as login, pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute("select * from agent_vault.claim_jobs('default', 'me/1', 1, 60)")


async def test_a_vault_with_the_login_of_a_daemon(granted: str, run: Run, tmp_path: Path) -> None:
    """It keeps deliveries in its spool, but is not ready, and says in one line which login it needs; so does doctor."""
    spool = tmp_path / "spool"
    settings = {
        "DATABASE_URL": granted,
        "COMPOSIO_WEBHOOK_SECRET": SECRET,
        "VAULT_PORT": "0",
        "VAULT_SPOOL_DIR": str(spool),
    }
    async with run_program("vault", "serve", env=settings, home=tmp_path) as program:
        port = (await program.event("vault_listening", ready=False))["port"]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            body = sample()
            signed = signed_headers(SECRET, "msg_server", int(time.time()), body)
            async with client.post(WEBHOOK, data=body, headers=signed) as response:
                assert (200, True) == (response.status, (await response.json())["spooled"])
            async with client.get("/readyz") as response:
                assert 503 == response.status
        assert 0 == await program.stop()
    assert {"login_not_allowed"} == {line["event"] for line in program.events if line["level"] in {"warning", "error"}}
    done = run("doctor", **settings)
    assert 1 == done.returncode
    assert (
        "WRONG  login: the login in DATABASE_URL may not record events: take one that agent-vault grant" in done.stdout
    )


def test_jobs_with_the_login_of_a_daemon(granted: str, run: Run) -> None:
    """A person with that is told of the login that is made for them."""
    done = run("jobs", DATABASE_URL=granted)
    assert (1, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert "one that agent-vault grant operator made" in done.stderr
