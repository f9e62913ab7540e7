"""The spool of real processes: killed, crowded, out of disk, with a Postgres that is killed too."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import psycopg
import pytest
from deliveries import SECRET, WEBHOOK, Switch, rows, sample
from faults.postgres import CrashablePostgres, crashable
from faults.proxy import proxy
from programs import Program, run, until
from psycopg.conninfo import conninfo_to_dict
from spools import fill, kept, waiting

from sql.migrate import migrate
from vault.sender import signed_headers

pytestmark = pytest.mark.faults


@pytest.fixture
def environment(dsn: str, tmp_path: Path) -> dict[str, str]:
    """All that a vault with a spool needs."""
    config = tmp_path / "vault.toml"
    config.touch()
    return {
        "DATABASE_URL": dsn,
        "COMPOSIO_WEBHOOK_SECRET": SECRET,
        "VAULT_PORT": "0",
        "VAULT_CONFIG": str(config),
        "VAULT_SPOOL_DIR": str(tmp_path / "spool"),
    }


@pytest.fixture
def folder(environment: dict[str, str]) -> Path:
    """Its folder."""
    return Path(environment["VAULT_SPOOL_DIR"])


@pytest.fixture
def switch(server_dsn: str, dsn: str) -> Switch:
    """The test's database, to be taken away."""
    return Switch(server_dsn, str(conninfo_to_dict(dsn)["dbname"]))


@pytest.fixture
def postgres() -> Iterator[CrashablePostgres]:
    """A migrated server of the test's own."""
    with crashable() as one:
        migrate(one.dsn)
        yield one


@contextlib.asynccontextmanager
async def vault(environment: dict[str, str], home: Path) -> AsyncIterator[tuple[Program, aiohttp.ClientSession]]:
    """Run one, and a client of it."""
    async with run("vault", "serve", env=environment, home=home) as program:
        port = (await program.event("vault_listening"))["port"]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield program, client


async def deliver(client: aiohttp.ClientSession, webhook_id: str, body: bytes | None = None) -> tuple[int, bool]:
    """Send a signed delivery; return the status and whether it was spooled."""
    body = body or sample()
    headers = signed_headers(SECRET, webhook_id, int(time.time()), body)
    async with client.post(WEBHOOK, data=body, headers=headers) as response:
        return response.status, (await response.json()).get("spooled", False)


async def drained(folder: Path) -> None:
    """Wait until nothing waits."""
    await until(lambda: not waiting(folder), "an empty spool")


def event_ids(dsn: str) -> list[str]:
    """The ids of the learnings, as of created_at."""
    with psycopg.connect(dsn) as database:
        return [row["event_id"] for row in rows(database, "agent_learnings")]


async def stream(client: aiohttp.ClientSession, accepted: dict[str, tuple[float, float]], name: str) -> None:
    """Deliver without a pause until the vault is gone; note when each that was accepted was under way."""
    with contextlib.suppress(aiohttp.ClientError):
        for number in range(100_000):
            began = time.time()
            if (await deliver(client, f"{name}_{number}"))[0] == 200:
                accepted[f"{name}_{number}"] = (began, time.time())


async def test_both_killed(environment: dict[str, str], tmp_path: Path, postgres: CrashablePostgres) -> None:
    """Postgres is killed, then the vault, each in the midst of a stream: all that was answered 200 is there, once."""
    accepted: dict[str, tuple[float, float]] = {}
    environment |= {"DATABASE_URL": postgres.dsn}
    async with vault(environment, tmp_path) as (program, client), asyncio.TaskGroup() as senders:
        for number in range(8):
            senders.create_task(stream(client, accepted, f"msg_{number}"))
        await until(lambda: len(accepted) > 50, "the first")
        await asyncio.to_thread(postgres.kill)
        await program.event("webhook_accepted", spooled=True)
        enough = len(accepted) + 200
        await until(lambda: len(accepted) > enough, "many more")
        assert -signal.SIGKILL == await program.stop(signal.SIGKILL)
    await asyncio.to_thread(postgres.start)
    async with vault(environment, tmp_path) as (program, client):
        await program.event("spool_adopted")
        await drained(Path(environment["VAULT_SPOOL_DIR"]))
    with psycopg.connect(postgres.dsn) as database:
        learnings, jobs = rows(database, "agent_learnings"), rows(database, "jobs")
    found = {row["event_id"]: row["created_at"].timestamp() for row in learnings}
    assert set(accepted) <= set(found)
    assert len(found) == len(learnings) == len(jobs)
    late = [one for one, (began, ended) in accepted.items() if not began - 0.1 <= found[one] <= ended + 0.1]
    assert [] == late


async def test_starts_without_a_database(
    environment: dict[str, str], tmp_path: Path, folder: Path, dsn: str, switch: Switch
) -> None:
    """It starts, is ready, and accepts; with the database it moves all and takes new ones there."""
    switch.off()
    async with vault(environment, tmp_path) as (program, client):
        await program.event("vault_listening", ready=True)
        assert ["database_away"] == [event["event"] for event in program.events if event["level"] == "error"]
        assert [(200, True)] * 3 == [await deliver(client, f"msg_{number}") for number in range(3)]
        switch.on()
        await drained(folder)
        await program.event("spool_drained", moved=3)

        async def ordinary() -> bool:
            return (200, False) == await deliver(client, "new")

        await until(ordinary, "an ordinary answer")
        assert 0 == await program.stop()
    assert ["msg_0", "msg_1", "msg_2", "new"] == event_ids(dsn)


async def test_killed_while_it_drains(
    environment: dict[str, str], tmp_path: Path, folder: Path, dsn: str, database: psycopg.Connection
) -> None:
    """A vault that is killed again and again on the way to Postgres loses nothing and doubles nothing."""
    expected = [f"msg_{number:04}" for number in range(3000)]
    fill(folder, *(kept(one, age_s=3600 - number) for number, one in enumerate(expected)))
    for least in (1, 500, 1500):
        async with vault(environment, tmp_path) as (program, _client):
            await until(lambda: len(rows(database, "jobs")) >= least, "some moved")  # noqa: B023 - used in this round
            await program.stop(signal.SIGKILL)
    async with vault(environment, tmp_path):
        await drained(folder)
    assert expected == event_ids(dsn)
    assert 3000 == len(rows(database, "jobs"))


async def test_several_share_a_folder(
    environment: dict[str, str], tmp_path: Path, folder: Path, dsn: str, switch: Switch
) -> None:
    """Three vaults over one folder: each keeps its own; one that lives, or starts, moves what the others left."""
    switch.off()
    async with contextlib.AsyncExitStack() as stack:
        three = [await stack.enter_async_context(vault(environment, tmp_path)) for _ in range(3)]
        for number, (_program, client) in enumerate(three):
            assert (200, True) == await deliver(client, f"msg_{number}")
        assert 3 == len(list(folder.glob("spool-*.sqlite")))
        for program, _client in three[:2]:
            await program.stop(signal.SIGKILL)
        switch.on()
        await drained(folder)
        await three[2][0].event("spool_adopted")
    assert ["msg_0", "msg_1", "msg_2"] == event_ids(dsn)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
async def test_full_disk(environment: dict[str, str], tmp_path: Path, folder: Path, dsn: str, switch: Switch) -> None:
    """On a disk that is really full nothing is acknowledged, nothing is lost, and room is used when it is there."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=True)
    try:
        switch.off()
        async with vault(environment, tmp_path) as (program, client):
            ballast = folder / "ballast"
            ballast.write_bytes(b"x" * 1_000_000)
            answers = {}
            for number in range(200):
                answers[f"msg_{number:03}"] = (await deliver(client, f"msg_{number:03}", b"x" * 20_000))[0]
            assert {200, 503} == set(answers.values())
            await program.event("spool_full")
            taken = [one for one, status in answers.items() if status == 200]
            assert 10 < len(taken) < 150
            ballast.unlink()
            await program.event("spool_back")
            assert (200, True) == await deliver(client, "with_room", b"x" * 20_000)
            more = {f"more_{n:03}": await deliver(client, f"more_{n:03}", b"x" * 20_000) for n in range(200)}
            taken += [one for one, (status, _spooled) in more.items() if status == 200]
            # and full to the last page, so that even taking out needs room
            _fill_up(folder / "ballast")
            switch.on()
            await program.event("spool_drained")
        found = event_ids(dsn)
        assert sorted([*taken, "with_room"]) == sorted(found)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _fill_up(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


async def test_a_broken_file(
    environment: dict[str, str], tmp_path: Path, folder: Path, database: psycopg.Connection
) -> None:
    """A file that is damaged is moved aside, loudly, and the vault starts and works."""
    folder.mkdir()
    (folder / "spool-1.sqlite").write_bytes(b"SQLite format 3\0 and then the power went")
    async with vault(environment, tmp_path) as (program, client):
        event = await program.event("spool_broken", level="error")
        assert Path(event["file"]).read_bytes().endswith(b"the power went")
        assert (200, False) == await deliver(client, "msg_1")
    assert 1 == len(rows(database, "agent_learnings"))


async def test_a_folder_that_cannot_be(environment: dict[str, str], tmp_path: Path) -> None:
    """Exit 78, with the setting's name and the remedy."""
    (tmp_path / "file").touch()
    wrong = environment | {"VAULT_SPOOL_DIR": str(tmp_path / "file")}
    async with run("vault", "serve", env=wrong, home=tmp_path) as program:
        assert 78 == await program.ended()
    (event,) = program.events
    assert event["problem"].startswith(f"VAULT_SPOOL_DIR: cannot use {tmp_path / 'file'} (file exists): ")


async def test_old_schema_at_start(environment: dict[str, str], tmp_path: Path, database: psycopg.Connection) -> None:
    """A spool is no reason to start over a schema that must be migrated first."""
    database.execute("delete from agent_vault.migrations where version > 1")
    async with run("vault", "serve", env=environment, home=tmp_path) as program:
        assert 1 == await program.ended()
    assert (await program.event("vault_refused_to_start"))["problem"].endswith("run agent-vault migrate")


async def test_stops_while_the_database_hangs(
    environment: dict[str, str], tmp_path: Path, folder: Path, dsn: str
) -> None:
    """A move that hangs does not hold up the end, and what waits is still there."""
    async with proxy(dsn) as wire, vault(environment | {"DATABASE_URL": wire.dsn}, tmp_path) as (program, client):
        assert (200, False) == await deliver(client, "msg_1")
        wire.blackhole()
        assert (200, True) == await deliver(client, "msg_2")
        assert 0 == await program.stop()
        assert "vault_stopped" == program.events[-1]["event"]
    assert ["msg_2"] == waiting(folder)
