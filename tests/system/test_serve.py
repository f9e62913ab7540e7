"""`agent-vault serve` as the process that it is: how it starts, what it says, how it ends."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import psycopg
import pytest
from deliveries import KEY, SECRET, WEBHOOK, Commits, Switch, rows, sample, say
from programs import Program, run, until
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from strangers import CLOSING, connections, request

from vault.sender import signed_headers

AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
CANARY = "canary7f3a"


@pytest.fixture
def environment(dsn: str, tmp_path: Path) -> dict[str, str]:
    """All that a vault needs, on a free port, and no file of this machine."""
    config = tmp_path / "vault.toml"
    config.touch()
    return {
        "DATABASE_URL": dsn,
        "COMPOSIO_WEBHOOK_SECRET": SECRET,
        "AGENT_EDGE_KEY": KEY,
        "VAULT_PORT": "0",
        "VAULT_CONFIG": str(config),
    }


@pytest.fixture
async def program(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Program]:
    """A vault that runs."""
    async with run("vault", "serve", env=environment, home=tmp_path) as one:
        yield one


@pytest.fixture
async def url(program: Program) -> str:
    """Where it listens."""
    return f"http://127.0.0.1:{(await program.event('vault_listening'))['port']}"


@pytest.fixture
async def client(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of it."""
    async with aiohttp.ClientSession(url) as session:
        yield session


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that another program has."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


async def deliver(client: aiohttp.ClientSession, body: bytes, secret: str = SECRET) -> int:
    """Send a signed delivery and return the status."""
    headers = signed_headers(secret, f"msg_{time.monotonic_ns()}", int(time.time()), body)
    async with client.post(WEBHOOK, data=body, headers=headers) as response:
        await response.read()
        return response.status


def check_form(program: Program) -> None:
    """Fail unless each line is an event as the logs promise."""
    assert [["time", "level", "event"]] * len(program.lines) == [list(event)[:3] for event in program.events]
    for event in program.events:
        assert event["level"] in {"debug", "info", "warning", "error", "critical"}
        assert "logger" in event or " " not in event["event"]


@pytest.mark.parametrize("name", ["COMPOSIO_WEBHOOK_SECRET", "DATABASE_URL"])
async def test_without_a_setting(environment: dict[str, str], tmp_path: Path, name: str) -> None:
    """Without its secret, or its database, it does not start, and says in one line which name is missing."""
    async with run("vault", "serve", env=environment | {name: " "}, home=tmp_path) as program:
        assert 78 == await program.ended()
        (event,) = program.events
    assert ("vault_refused_to_start", "critical") == (event["event"], event["level"])
    assert event["problem"].startswith(f"{name} is ")
    check_form(program)


async def test_port_taken(environment: dict[str, str], tmp_path: Path, taken_port: int) -> None:
    """Where another program listens it says so, with the remedy, and ends with 1."""
    async with run("vault", "serve", env=environment | {"VAULT_PORT": str(taken_port)}, home=tmp_path) as program:
        assert 1 == await program.ended()
    event = await program.event("vault_refused_to_start")
    assert event["problem"].startswith(f"cannot listen on 127.0.0.1:{taken_port} (address already in use): ")
    assert event["problem"].endswith(
        "set VAULT_HOST and VAULT_PORT to an address and port of this machine that are free"
    )
    check_form(program)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a..b"])
async def test_host_is_wrong(environment: dict[str, str], tmp_path: Path, host: str) -> None:
    """An address that is not this machine's, or none at all, is told in the same way."""
    async with run("vault", "serve", env=environment | {"VAULT_HOST": host}, home=tmp_path) as program:
        assert 1 == await program.ended()
    assert f"cannot listen on {host}:0 (" in (await program.event("vault_refused_to_start"))["problem"]
    check_form(program)


@pytest.mark.parametrize(
    ("schema", "has"),
    [
        ("drop schema agent_vault cascade", "no agent_vault schema"),
        ("delete from agent_vault.migrations where version > 1", "schema version 1"),
    ],
)
async def test_schema_too_old(
    environment: dict[str, str], tmp_path: Path, database: psycopg.Connection, schema: str, has: str
) -> None:
    """Over a database that must be migrated first it does not start, and names the command."""
    database.execute(schema)
    async with run("vault", "serve", env=environment, home=tmp_path) as program:
        assert 1 == await program.ended()
    problem = (await program.event("vault_refused_to_start"))["problem"]
    assert problem.startswith(f"the database has {has}, this program needs ")
    assert problem.endswith("run agent-vault migrate")
    assert [] == [event for event in program.events if event["level"] == "error"]
    check_form(program)


async def test_starts_without_its_database(environment: dict[str, str], tmp_path: Path, switch: Switch) -> None:
    """A database that is away is no reason not to start: it listens, is not ready, and takes deliveries later."""
    switch.off()
    async with run("vault", "serve", env=environment, home=tmp_path) as program:
        port = (await program.event("vault_listening", ready=False))["port"]
        assert ["database_away"] == [event["event"] for event in program.events if event["level"] == "error"]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            assert 503 == await deliver(client, sample())
            switch.on()
            assert 200 == await deliver(client, sample())
        await program.event("vault_ready")
        assert 0 == await program.stop()
    check_form(program)


@pytest.fixture
def switch(server_dsn: str, dsn: str) -> Switch:
    """The test's database, to be taken away."""
    return Switch(server_dsn, str(conninfo_to_dict(dsn)["dbname"]))


async def test_only_events_and_no_content(program: Program, client: aiohttp.ClientSession, switch: Switch) -> None:
    """Through refusals, failures and what is no HTTP, each line is an event, and none quotes a request or a secret."""
    body = sample().replace(b'"data":{', b'"data":{"x":"%s",' % CANARY.encode())
    assert 200 == await deliver(client, body)
    assert 401 == await deliver(client, body, secret=CANARY)
    for path in (f"/learnings/search?q={CANARY}", f"/learnings/list?source={CANARY}&limit=x{CANARY}"):
        await client.get(path, headers=AUTHORIZED)
        await client.get(path, headers={"Authorization": f"Bearer {CANARY}"})
    for path in ("/jobs/next", "/jobs/ack", "/livez"):
        await client.post(path, data=f'{{"agentId": "{CANARY}\\u0000", "{CANARY}": '.encode(), headers=AUTHORIZED)
        await client.post(path, json={"jobId": CANARY, "status": CANARY, "agentId": [CANARY]}, headers=AUTHORIZED)
    await talk_nonsense(client._base_url.port)
    switch.off()
    assert 503 == await deliver(client, body)
    assert 503 == (await client.get("/learnings/list", headers=AUTHORIZED)).status
    await program.event("api_failed")
    assert 0 == await program.stop()
    check_form(program)
    assert {"webhook_accepted", "webhook_refused", "webhook_not_stored", "http_refused"} <= {
        event["event"] for event in program.events
    }
    assert [] == [secret for secret in (CANARY, SECRET, KEY) if secret in program.text]
    assert [] == [event for event in program.events if "exception" in event or event["event"] == "http_failed"]


async def talk_nonsense(port: int) -> None:
    """Send what is no HTTP, or breaks off; all that answers names no version."""
    post = f"POST {WEBHOOK} HTTP/1.1\r\nHost: x\r\n"
    heads = [
        f"{CANARY}\r\n\r\n",
        f"\x16\x03\x01{CANARY}\r\n\r\n",
        f"GET /\u00e9{CANARY} HTTP/9.9\r\n\r\n",
        f"GET http://[{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\n{CANARY}\r\n\r\n",
        f"GET /{CANARY * 1000} HTTP/1.1\r\n\r\n",
        f"GET / HTTP/1.1\r\nAuthorization: {CANARY * 1000}\r\n\r\n",
        f"{post}Content-Length: {CANARY}\r\n\r\n",
        f"{post}Transfer-Encoding: chunked\r\n\r\n{CANARY}\r\n",
    ]
    for head in heads:
        answer = await say(port, head.encode("latin-1"))
        assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n")
        assert b"\r\nServer: agent-vault\r\n" in answer
    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{post}Content-Length: 600\r\n\r\n{CANARY}".encode())
    await writer.drain()
    writer.transport.abort()


async def test_sigterm_in_the_midst_of_a_request(
    program: Program, client: aiohttp.ClientSession, database: psycopg.Connection
) -> None:
    """What was accepted is finished: the answer comes, nobody new is let in meanwhile, and the status is 0."""
    commits = Commits(database)
    async with client.get("/livez"):  # a connection that idles must not hold up the end
        pass
    with commits.held():
        answer = asyncio.create_task(deliver(client, sample()))
        await commits.waiting()
        program.process.terminate()
        await program.event("stopping")
        await until(lambda: refuses(client._base_url.port), "a closed port")
        assert not answer.done()
        assert program.process.returncode is None
    assert (200, 0) == (await answer, await program.ended())
    assert "vault_stopped" == program.events[-1]["event"]
    assert 1 == len(rows(database, "jobs"))
    check_form(program)


async def test_sigint(program: Program, client: aiohttp.ClientSession) -> None:
    """Ctrl-C ends it as SIGTERM does, and at once where there is nothing to finish."""
    assert 200 == (await client.get("/livez")).status
    program.process.send_signal(2)
    assert 0 == await program.ended()


async def test_stops_while_the_database_hangs(
    environment: dict[str, str], tmp_path: Path, database: psycopg.Connection
) -> None:
    """A health check that hangs does not hold up the end."""
    async with run("vault", "serve", env=environment, home=tmp_path) as program:
        await program.event("vault_listening")
        with database.transaction():
            database.execute("lock table agent_vault.migrations in access exclusive mode")
            await until(lambda: hangs(database), "a health check that hangs")
            assert 0 == await program.stop()


async def test_out_of_file_descriptors(program: Program, client: aiohttp.ClientSession) -> None:
    """More connections than it may hold cost nobody but those who come meanwhile: who was there is served."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux limits another process")
    assert 200 == await deliver(client, sample())
    usual = resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE)
    open_fds = len(list(Path(f"/proc/{program.process.pid}/fd").iterdir()))
    resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (open_fds, usual[1]))
    port = client._base_url.port
    async with connections(port, 3):
        assert 200 == await deliver(client, sample())
    resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, usual)
    assert b" 200 OK" in await say(port, request(None, CLOSING))
    assert 0 == await program.stop()
    check_form(program)


def hangs(database: psycopg.Connection) -> bool:
    """Tell whether somebody waits for the schema's version."""
    query = "select from pg_locks where relation = 'agent_vault.migrations'::regclass and not granted"
    return database.execute(query).fetchone() is not None


def refuses(port: int) -> bool:
    """Tell whether nobody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_secrets_of_the_database_stay_hidden(environment: dict[str, str], tmp_path: Path, dsn: str) -> None:
    """A refused login is told with cause and remedy, without user, password or connection string, and tried again."""
    wrong = make_conninfo(dsn, user=f"user_{CANARY}", password=CANARY)
    async with run("vault", "serve", env=environment | {"DATABASE_URL": wrong}, home=tmp_path) as program:
        away = await program.event("database_away")
        assert 0 == await program.stop()
    assert away["error"].startswith("the database refused the login: check user and password (")
    assert CANARY not in program.text
    assert dsn not in program.text
    assert json.loads(program.lines[0])
