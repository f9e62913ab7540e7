"""The daemon among its neighbours: supervisor, log reader, database and gateway, each at its worst."""

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from daemons import counts, daemon, environment, free_port, idle, insert, row, terminate
from gateways import FakeGateway, gateway
from programs import run, until

from notifier.ending import SAME_S

NOWHERE = "postgresql://user@127.0.0.1:1/none"  # nobody listens there


@pytest.fixture
async def fake() -> AsyncIterator[FakeGateway]:
    """A gateway that accepts everything until told otherwise."""
    async with gateway() as one:
        yield one


async def test_a_stop_while_idle_is_prompt_and_in_order(dsn: str, fake: FakeGateway, tmp_path: Path) -> None:
    """SIGTERM ends it with status 0, and its log says so."""
    async with daemon(dsn, fake.url, tmp_path) as program:
        await idle(program)
        assert 0 == await program.stop()
    assert ["daemon_started", "listener_up", "stopping", "daemon_stopped"] == [line["event"] for line in program.events]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_finishes_what_the_gateway_has(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path, how: signal.Signals
) -> None:
    """The answer that comes after the signal is stored; what was not yet claimed stays for later."""
    fake.held.clear()
    insert(database, 3)
    async with daemon(dsn, fake.url, tmp_path, concurrency=1) as program:
        await until(lambda: fake.posts)
        program.process.send_signal(how)
        await program.event("stopping", signal=how.name)
        fake.held.set()
        assert 0 == await program.ended()
    assert {"done": 1, "queued": 2} == counts(database)
    assert "daemon_stopped" == program.events[-1]["event"]


async def test_a_second_ctrl_c_does_not_wait(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A gateway that hangs holds up a stop in order; whoever asks again is let go, and the job stays leased."""
    fake.held.clear()
    insert(database, 1)
    async with daemon(dsn, fake.url, tmp_path) as program:
        await until(lambda: fake.posts)
        program.process.send_signal(signal.SIGINT)
        await program.event("stopping")
        await asyncio.sleep(SAME_S)
        assert -signal.SIGINT == await program.stop(signal.SIGINT)
    assert {"processing": 1} == counts(database)


async def test_a_stop_releases_what_the_gateway_will_not_take(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A job in the middle of its tries goes back at once and uncounted."""
    fake.always = (503, "draining")
    (job_id,) = insert(database)
    async with daemon(dsn, fake.url, tmp_path) as program:
        await until(lambda: fake.posts)
        assert 0 == await program.stop()
    back = row(database, job_id)
    assert ("queued", 0, None) == (back["status"], back["attempts"], back["locked_by"])
    assert [str(job_id)] == [line["job_id"] for line in program.events if line["event"] == "job_released"]


async def test_a_stop_does_not_wait_for_an_absent_gateway(
    dsn: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    """Nobody listens there: the job goes back uncounted."""
    (job_id,) = insert(database)
    async with daemon(dsn, f"http://127.0.0.1:{free_port()}", tmp_path) as program:
        await program.event("job_claimed")
        assert 0 == await program.stop()
    assert ("queued", 0) == (row(database, job_id)["status"], row(database, job_id)["attempts"])


async def test_it_lives_without_database_and_gateway(tmp_path: Path) -> None:
    """Neither ends it: it tries on, says so in one line, and leaves in order when told to."""
    tries = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        dsn = f"postgresql://user@127.0.0.1:{server.sockets[0].getsockname()[1]}/none"
        async with daemon(dsn, f"http://127.0.0.1:{free_port()}", tmp_path) as program:
            await until(lambda: tries >= 6, "the sixth try")
            assert 0 == await program.stop()
    assert ["daemon_started", "listener_lost", "stopping", "daemon_stopped"] == [
        line["event"] for line in program.events
    ]


@pytest.mark.parametrize(
    ("name", "value"), [("DATABASE_URL", ""), ("OPENCLAW_HOOK_TOKEN", ""), ("DAEMON_CONCURRENCY", "many")]
)
async def test_a_wrong_setting_ends_it_with_78(tmp_path: Path, name: str, value: str) -> None:
    """What no network mends is one JSON line that names the setting, and a status that stops the supervisor."""
    env = {**environment(NOWHERE, "http://127.0.0.1:1"), name: value}
    async with run("daemon", "run", env=env, home=tmp_path) as program:
        assert 78 == await program.ended()
    (line,) = program.events
    assert ("critical", "daemon_refused_to_start") == (line["level"], line["event"])
    assert line["problem"].startswith(name)


async def test_it_has_no_listening_socket(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """It works from behind NAT, and nobody can connect to it: every connection is one that it opened."""
    fake.held.clear()
    insert(database)
    async with daemon(dsn, fake.url, tmp_path) as program:
        await idle(program)
        await until(lambda: fake.posts)
        # a unix socket has no status here; one that listens has a path of its own
        process = psutil.Process(program.process.pid)
        inet, local = process.net_connections(kind="inet"), process.net_connections(kind="unix")
        fake.held.set()
    assert ["ESTABLISHED"] == [
        one.status for one in inet if one.raddr and one.raddr.port == int(fake.url.split(":")[2])
    ]
    assert psutil.CONN_LISTEN not in {one.status for one in inet}
    assert not [one.laddr for one in local if one.laddr]


@pytest.fixture
def supervisor() -> Iterator[socket.socket]:
    """The socket that systemd gives a service."""
    # not below tmp_path, which is too long for a socket's name on macOS
    folder = Path(tempfile.mkdtemp(prefix="av-"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(folder / "notify"))
        one.settimeout(0)
        yield one
    shutil.rmtree(folder)


@pytest.mark.parametrize("reachable", [True, False])
async def test_the_supervisor_is_told(
    dsn: str, fake: FakeGateway, tmp_path: Path, supervisor: socket.socket, *, reachable: bool
) -> None:
    """READY=1 at once, also while the database is away, and STOPPING=1 at the end."""
    env = {**environment(dsn if reachable else NOWHERE, fake.url), "NOTIFY_SOCKET": supervisor.getsockname()}
    told: list[bytes] = []

    def hear() -> list[bytes]:
        with suppress(BlockingIOError):
            told.append(supervisor.recv(4096))
        return told

    async with run("daemon", "run", env=env, home=tmp_path) as program:
        await until(lambda: b"READY=1" in hear())
        assert b"STOPPING=1" not in told
        assert 0 == await program.stop()
        await until(lambda: b"STOPPING=1" in hear())


async def test_every_line_is_one_json_object(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Also when the gateway answers nonsense, the database breaks off and a signal comes: jq reads it all."""
    fake.answers = [(500, "\x00 no\n\u2028{"), (413, '"'), (503, "\xff")]
    insert(database, 5, text='"\n\\ \U0001f514')
    async with daemon(dsn, fake.url, tmp_path, log_level="debug", concurrency=1) as program:
        await program.event("job_retried")
        await program.event("job_failed")
        assert terminate(database)
        await program.event("listener_lost")
        fake.always = (401, "\x1b[31mno")
        insert(database)
        await program.event("gateway_paused")
        assert 0 == await program.stop()
    read = ["jq", "-e", ".time and .level and .event"] if shutil.which("jq") else [sys.executable, "-c", READ]
    outcome = subprocess.run(read, input=program.text, text=True, capture_output=True, check=False)
    assert (0, "") == (outcome.returncode, outcome.stderr)
    assert ["true"] * len(program.lines) == outcome.stdout.split()
    assert "hook-token-of-the-tests" not in program.text


READ = "import json, sys; [print('true' if {'time', 'level', 'event'} <= set(json.loads(l)) else l) for l in sys.stdin]"


@pytest.mark.parametrize("reader", ["stopped", "dead"])
async def test_a_log_reader_is_no_part_of_delivery(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path, reader: str
) -> None:
    """Nobody reads what it says, or the reader is gone: all jobs are delivered, and it ends in order."""
    settings = environment(dsn, fake.url, log_level="debug", concurrency=20)
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "run"],
        env={"HOME": str(tmp_path), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        if reader == "dead":
            process.stdout.close()
        insert(database, 3000)
        await until(lambda: counts(database) == {"done": 3000}, "3,000 deliveries")
        process.send_signal(signal.SIGTERM)
        assert 0 == await asyncio.to_thread(process.wait)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert 3000 == len(set(fake.wakes)) == len(fake.wakes)


async def test_what_was_claimed_ahead_of_a_pause_goes_back(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A gateway that turns everybody away hears no more than was on its way, and other daemons can have the rest."""
    insert(database, 2000)
    async with daemon(dsn, fake.url, tmp_path, concurrency=4) as program:
        await until(lambda: len(fake.wakes) > 200, "a good pace")
        fake.always = (401, "Unauthorized")
        await program.event("gateway_paused")
        await until(lambda: not counts(database).get("processing"), "the release of all")
        assert len(fake.posts) <= len(fake.wakes) + 8
        assert 0 < counts(database)["queued"]
        fake.always = None
        await until(lambda: counts(database)["done"] == 2000, "the two thousandth delivery")
        assert 0 == await program.stop()
    attempts = database.execute("select max(attempts) from jobs").fetchone()
    assert ((1,), 2000) == (attempts, len(set(fake.wakes)))


async def test_a_database_that_breaks_off_again_and_again_loses_nothing(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A thousand jobs flow while its backends are ended ten times: each is done and woke the agent at least once."""
    broken_off = 0

    def go_on() -> bool:
        nonlocal broken_off
        done = counts(database)["done"]
        if done > broken_off * 40:
            broken_off += bool(terminate(database))
        return done == 1000

    # a claim whose answer was lost lapses, counted
    made = insert(database, 1000, max_attempts=20)
    async with daemon(dsn, fake.url, tmp_path, lease_s=1) as program:
        await until(go_on, "the thousandth delivery")
        assert 0 == await program.stop()
    assert 10 <= broken_off
    assert {f"hello {number}" for number in range(len(made))} == set(fake.wakes)
    assert "delivery_crashed" not in program.text
    assert not [line for line in program.lines if "Traceback" in json.loads(line).get("exception", "")]
