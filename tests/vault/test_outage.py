"""A vault with a spool, without Postgres: what is answered, and what is in the tables when it is back."""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid5

import psycopg
import pytest
from aiohttp.test_utils import TestClient
from deliveries import GMAIL, SECRET, WEBHOOK, Commits, Switch, deliver, rows, sample, stored
from faults.proxy import Proxy, proxy
from programs import until
from pytest_aiohttp import AiohttpClient
from spools import fill, kept, look, waiting
from structlog.testing import capture_logs

from sql.learnings import EVENT_NAMESPACE, record_events
from sql.migrate import latest
from sql.session import Session
from vault import drain, inbox, spooler
from vault.app import make_app
from vault.drain import _ages_s
from vault.keys import CIRCUIT, HEALTH, INBOX, SPOOLER
from vault.room import Room
from vault.sender import signed_headers
from vault.settings import VaultSettings
from vault.spool_file import SpoolError
from vault.spool_folder import SpoolFolder

pytestmark = pytest.mark.faults

Configure = Callable[..., VaultSettings]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the vault spools."""
    return tmp_path / "spool"


@pytest.fixture
def settings(configure: Configure, folder: Path) -> VaultSettings:
    """Those of a vault with a spool."""
    return configure(spool_dir=folder)


@pytest.fixture
async def vault(settings: VaultSettings, aiohttp_client: AiohttpClient) -> TestClient:
    """A vault with a spool, over the test's database."""
    return await aiohttp_client(make_app(settings))


@pytest.fixture
async def wire(dsn: str) -> AsyncIterator[Proxy]:
    """The way from the vault to its database."""
    async with proxy(dsn) as one:
        yield one


@pytest.fixture
async def far_vault(configure: Configure, folder: Path, wire: Proxy, aiohttp_client: AiohttpClient) -> TestClient:
    """A vault with a spool, whose database is behind that way; its connections are open."""
    one = await aiohttp_client(make_app(configure(spool_dir=folder, database_url=wire.dsn)))
    assert (200, True) == await ordinary(one, "warm")
    await until(lambda: one.app[HEALTH].ready)
    return one


async def ordinary(vault: TestClient, webhook_id: str) -> tuple[int, bool]:
    """Deliver; return the status and whether it went to Postgres with its job."""
    status, answer = await deliver(vault, sample(), webhook_id)
    return status, answer.get("job_queued", False) and "spooled" not in answer


async def spooled(vault: TestClient, webhook_id: str, body: bytes | None = None) -> None:
    """Deliver, and see that the spool took it."""
    learning_id = str(uuid5(EVENT_NAMESPACE, webhook_id))
    expected = {"ok": True, "learning_id": learning_id, "job_queued": False, "spooled": True}
    assert (200, expected) == await deliver(vault, body or sample(), webhook_id)
    await asyncio.sleep(0.05)  # those of two statements are in order where their receipts are so far apart


async def drained(folder: Path) -> None:
    """Wait until nothing waits."""
    await until(lambda: not waiting(folder), "an empty spool")


def event_ids(database: psycopg.Connection) -> list[str]:
    """The ids of the learnings, as of created_at."""
    return [row["event_id"] for row in rows(database, "agent_learnings")]


async def test_away_and_back(vault: TestClient, dsn: str, folder: Path, switch: Switch) -> None:
    """Without Postgres a delivery is on the disk before its 200; back, all are rows in order, as of their receipt."""
    switch.off()
    times, bodies = [], {}
    for number in range(5):
        bodies[f"msg_{number}"] = sample()
        began = time.time()
        await spooled(vault, f"msg_{number}", bodies[f"msg_{number}"])
        times.append((began, time.time()))
        assert f"msg_{number}" in waiting(folder)
    await asyncio.sleep(0.5)  # so that the time of the receipt and that of the move differ
    with capture_logs() as logs:
        switch.on()
        await drained(folder)
        await until(lambda: [log for log in logs if log["event"] == "spool_drained"])
    with psycopg.connect(dsn) as database:
        learnings = rows(database, "agent_learnings")
        jobs = rows(database, "jobs")
    assert list(bodies.items()) == [(row["event_id"], row["raw_body"]) for row in learnings]
    for row, (began, ended) in zip(learnings, times, strict=True):
        assert uuid5(EVENT_NAMESPACE, row["event_id"]) == row["id"]
        assert began - 0.05 <= row["created_at"].timestamp() <= ended + 0.05
    assert {row["id"] for row in learnings} == {job["learning_id"] for job in jobs}
    assert 5 == len(jobs)
    (told,) = [log for log in logs if log["event"] == "spool_drained"]
    assert (5, 0, 0) == (told["moved"], told["duplicates"], told["refused"])
    await until(lambda: ordinary_now(vault), "an ordinary answer")


async def ordinary_now(vault: TestClient) -> bool:
    """Tell whether a delivery goes to Postgres."""
    return (await ordinary(vault, f"now_{time.monotonic_ns()}"))[1]


async def test_accepted_is_logged_as_spooled(vault: TestClient, switch: Switch) -> None:
    """The log has one event for it, with the id that the learning will have."""
    switch.off()
    with capture_logs() as logs:
        await spooled(vault, "msg_1")
    (log,) = [log for log in logs if log["event"] == "webhook_accepted"]
    expected = (True, uuid5(EVENT_NAMESPACE, "msg_1"), GMAIL)
    assert expected == (log["spooled"], log["learning_id"], log["type"])


async def test_a_crash_of_the_writer(
    vault: TestClient, dsn: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """A fault of ours in the writer costs its batch the ordinary way only, and no request hangs."""
    crashes = 0

    async def crash_once(*args: Any, **options: Any) -> Any:
        nonlocal crashes
        crashes += 1
        if crashes == 1:
            raise TypeError("no such row")
        return await record_events(*args, **options)

    monkeypatch.setattr(inbox, "record_events", crash_once)
    monkeypatch.setattr(inbox, "COMMIT_S", 0.5)
    with capture_logs() as logs:
        await spooled(vault, "msg_1")
    assert ["inbox"] == [log["part"] for log in logs if log["event"] == "part_crashed"]
    await drained(folder)
    await until(lambda: ordinary_now(vault), "an ordinary answer")
    with psycopg.connect(dsn) as database:
        assert "msg_1" in event_ids(database)


async def test_a_damaged_row_does_not_stop_the_vault(
    settings: VaultSettings, dsn: str, folder: Path, aiohttp_client: AiohttpClient
) -> None:
    """A vault starts over a file with a row that is no delivery, and moves the others."""
    fill(folder, kept("bad", age_s=3), kept("msg_1", age_s=2))
    with sqlite3.connect(folder / "spool-1.sqlite") as damaged:
        damaged.execute("update delivery set body = 5 where event_id = 'bad'")
    damaged.close()
    vault = await aiohttp_client(make_app(settings))
    await drained(folder)
    assert (200, True) == await ordinary(vault, "msg_2")
    with psycopg.connect(dsn) as database:
        assert ["msg_1", "msg_2"] == event_ids(database)


async def test_at_once(far_vault: TestClient, wire: Proxy, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once Postgres is known to be away nobody waits for it: what comes never queues behind the commit that hangs."""
    monkeypatch.setattr(inbox, "COMMIT_S", 0.2)
    wire.blackhole()
    await spooled(far_vault, "first")
    for number in range(20):
        await spooled(far_vault, f"msg_{number}")
    assert [] == list(far_vault.app[INBOX]._queue)
    assert 21 == len(waiting(folder))
    wire.heal()
    await drained(folder)


async def test_slow_commit(
    vault: TestClient, folder: Path, database: psycopg.Connection, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that takes too long is answered from the spool, and both together are one row."""
    monkeypatch.setattr(inbox, "COMMIT_S", 0.2)
    with commits.held(), capture_logs() as logs:
        waits = [asyncio.create_task(spooled(vault, f"msg_{number}")) for number in range(3)]
        await commits.waiting()
        await asyncio.gather(*waits)
        assert [] == event_ids(database)
    away = [log["error"] for log in logs if log["event"] == "database_away"]
    assert "no commit within" in away[0]
    await drained(folder)
    assert ["msg_0", "msg_1", "msg_2"] == sorted(event_ids(database))
    assert 3 == len(rows(database, "jobs"))


async def test_commit_within_its_time(vault: TestClient, commits: Commits) -> None:
    """A commit that takes a while, and not too long, is answered as ever."""
    with commits.held():
        answer = asyncio.create_task(ordinary(vault, "msg_1"))
        await commits.waiting()
    assert (200, True) == await answer


@pytest.mark.parametrize("toward", ["client", "server"])
@pytest.mark.parametrize("end", ["goes on", "breaks"])
async def test_unknown_outcome(
    far_vault: TestClient, wire: Proxy, database: psycopg.Connection, folder: Path,
    monkeypatch: pytest.MonkeyPatch, toward: Any, end: str,
) -> None:  # fmt: skip
    """Whether the commit happened and its answer is lost, or it never arrived: spooled, and one row in the end."""
    monkeypatch.setattr(inbox, "COMMIT_S", 0.5)
    stall = wire.stall(toward, at=b"msg_1")  # the statement and its answer both name it
    await spooled(far_vault, "msg_1")
    assert stall.reached.is_set()
    found = await until(lambda: event_ids(database)) if toward == "client" else event_ids(database)
    assert ["warm", "msg_1"][: 2 if toward == "client" else 1] == found
    if end == "breaks":
        wire.reset()
    wire.release()
    await drained(folder)
    assert ["warm", "msg_1"] == event_ids(database)
    assert 2 == len(rows(database, "jobs"))


@pytest.mark.parametrize("toward", ["client", "server"])
async def test_unknown_outcome_without_a_spool(
    configure: Configure, wire: Proxy, aiohttp_client: AiohttpClient, database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch, toward: Any,
) -> None:  # fmt: skip
    """Without a spool the sender is asked to come again, and is then told what it would have been told."""
    monkeypatch.setattr(inbox, "COMMIT_S", 0.5)
    vault = await aiohttp_client(make_app(configure(database_url=wire.dsn)))
    assert (200, True) == await ordinary(vault, "warm")
    wire.stall(toward, at=b"msg_1")
    headers = signed_headers(SECRET, "msg_1", int(time.time()), b"{}")
    async with vault.post(WEBHOOK, data=b"{}", headers=headers) as response:
        assert (503, "5") == (response.status, response.headers["Retry-After"])
    wire.release()
    await until(lambda: again(vault), "an ordinary answer")
    assert ["warm", "msg_1"] == event_ids(database)
    assert 2 == len(rows(database, "jobs"))


async def again(vault: TestClient) -> bool:
    """Send the same once more."""
    return (200, True) == await ordinary(vault, "msg_1")


async def test_three_seconds() -> None:
    """That is how long a commit may take."""
    assert 3.0 == inbox.COMMIT_S == drain.SLOW_S


async def test_the_same_to_both(vault: TestClient, dsn: str, folder: Path, switch: Switch) -> None:
    """A webhook-id that came to Postgres, to the spool and to the spool again is one row, the first."""
    body = sample()
    assert 200 == (await deliver(vault, body, "msg_1"))[0]
    switch.off()
    await spooled(vault, "msg_1")
    await spooled(vault, "msg_1")
    await spooled(vault, "msg_2")
    switch.on()
    await drained(folder)
    with psycopg.connect(dsn) as database:
        assert ["msg_1", "msg_2"] == event_ids(database)
        assert body == rows(database, "agent_learnings")[0]["raw_body"]
        assert 2 == len(rows(database, "jobs"))


async def test_killed_between_commit_and_removal(
    settings: VaultSettings, aiohttp_client: AiohttpClient, folder: Path, session: Session, database: psycopg.Connection
) -> None:
    """What Postgres has already and the spool still holds, as after a crash between the two, makes no second row."""
    left = [kept(f"msg_{number}", age_s=60 - number) for number in range(3)]
    fill(folder, *left)
    await record_events(session, [one.event for one in left[:2]], ages_s=lambda: [60, 60])
    await aiohttp_client(make_app(settings))
    await drained(folder)
    assert ["msg_0", "msg_1", "msg_2"] == event_ids(database)
    assert 3 == len(rows(database, "jobs"))


async def test_time_of_receipt_over_a_restart(
    settings: VaultSettings, aiohttp_client: AiohttpClient, folder: Path, database: psycopg.Connection
) -> None:
    """What an earlier process received an hour ago is an hour old; what a wrong clock received tomorrow is new."""
    fill(folder, kept("tomorrow", age_s=-86_400), kept("an hour ago", age_s=3600))
    began = time.time()
    await aiohttp_client(make_app(settings))
    await drained(folder)
    received = {row["event_id"]: row["created_at"].timestamp() for row in rows(database, "agent_learnings")}
    assert began - 3600 == pytest.approx(received["an hour ago"], abs=1)
    assert began - 1 <= received["tomorrow"] <= time.time() + 1


def test_age() -> None:
    """The age is that of the wall clock, and never below nothing."""
    past, future = _ages_s([kept("a", age_s=100), kept("b", age_s=-100)])
    assert 100 == pytest.approx(past, abs=10)
    assert 0.0 == future


async def test_full(
    configure: Configure, aiohttp_client: AiohttpClient, dsn: str, folder: Path, switch: Switch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Beyond its bytes the answer is 503, nothing that was answered 200 is lost, and it recovers by itself."""
    monkeypatch.setattr(spooler, "PROBE_S", 0.05)
    vault = await aiohttp_client(make_app(configure(spool_dir=folder, spool_max_bytes=200_000)))
    switch.off()
    await until(lambda: not vault.app[HEALTH].ready)
    body = json.dumps({"x": "y" * 10_000}).encode()
    answers = {}
    with capture_logs() as logs:
        for number in range(40):
            headers = signed_headers(SECRET, f"msg_{number}", int(time.time()), body)
            async with vault.post(WEBHOOK, data=body, headers=headers) as response:
                answers[f"msg_{number}"] = response.status
                assert response.status == 200 or response.headers["Retry-After"] == "5"
    assert {200, 503} == set(answers.values())
    assert "spool_full" in {log["event"] for log in logs}
    assert sum(path.stat().st_size for path in folder.glob("*.sqlite")) <= 200_000
    taken = [event_id for event_id, status in answers.items() if status == 200]
    assert 10 <= len(taken) < 20
    assert 503 == (await vault.get("/readyz")).status
    switch.on()
    await drained(folder)
    with psycopg.connect(dsn) as database:
        assert taken == event_ids(database)
    switch.off()
    await until(lambda: vault.app[SPOOLER].accepts, "a spool that accepts")
    await spooled(vault, "after", body)


async def test_a_large_one_that_has_no_room_holds_up_no_small_one(
    configure: Configure, aiohttp_client: AiohttpClient, folder: Path, switch: Switch
) -> None:
    """In one batch of the disk: what has no room is refused alone."""
    vault = await aiohttp_client(make_app(configure(spool_dir=folder, spool_max_bytes=200_000)))
    switch.off()
    await spooled(vault, "first")
    sizes = {"small_1": 100, "large": 400_000, "small_2": 100}
    answers = await asyncio.gather(*(deliver(vault, b"1" * size, name) for name, size in sizes.items()))
    assert [200, 503, 200] == [status for status, _ in answers]
    assert {"first", "small_1", "small_2"} == set(waiting(folder))


async def test_refused_row(vault: TestClient, dsn: str, folder: Path, switch: Switch) -> None:
    """A row that Postgres refuses is set aside, loudly, holds up nobody, and can be had tried again."""
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute("alter table public.agent_learnings add constraint no_bad check (event_id <> 'bad')")
    switch.off()
    for name in ("msg_1", "bad", "msg_2"):
        await spooled(vault, name)
    with capture_logs() as logs:
        switch.on()
        await drained(folder)
        await until(lambda: [log for log in logs if log["event"] == "spool_drained"])
    (told,) = [log for log in logs if log["event"] == "spool_refused_row"]
    assert ("error", "bad") == (told["log_level"], told["event_id"])
    assert "no_bad" in told["error"]
    (aside,) = look(folder, "select event_id, refused from delivery")
    assert ("bad", told["error"]) == aside
    with psycopg.connect(dsn, autocommit=True) as database:
        assert ["msg_1", "msg_2"] == event_ids(database)
        assert (200, True) == await ordinary(vault, "msg_3")
        database.execute("alter table public.agent_learnings drop constraint no_bad")
        person(folder, "update delivery set refused = null")  # as the documentation says
        await until(lambda: "bad" in event_ids(database))
        assert ["msg_1", "bad", "msg_2", "msg_3"] == event_ids(database)


def person(folder: Path, statement: str) -> None:
    """Write into the spool from beside the vault."""
    connection = sqlite3.connect(folder / "spool-1.sqlite")
    with connection:
        connection.execute(statement)
    connection.close()


async def test_refused_at_the_commit(vault: TestClient, dsn: str, folder: Path, switch: Switch) -> None:
    """A row that fails only when it is committed is told and passed over; the rest arrives, and it when it may."""
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute(
            "create function fail() returns trigger language plpgsql as"
            " $$ begin if new.event_id = 'bad' then raise 'no bad ones'; end if; return null; end $$;"
            "create constraint trigger fail after insert on public.agent_learnings deferrable initially deferred"
            " for each row execute function fail()"
        )
    switch.off()
    for name in ("bad", "msg_1", "msg_2"):
        await spooled(vault, name)
    with capture_logs() as logs:
        switch.on()
        await until(lambda: waiting(folder) == ["bad"], "the others to be moved")
        await until(lambda: [log for log in logs if log["event"] == "spool_not_moved"], "the failure to be told")
    told = next(log for log in logs if log["event"] == "spool_not_moved")
    assert ("error", "bad", GMAIL) == (told["log_level"], told["event_id"], told["type"])
    assert not [log for log in logs if log["event"] == "spool_failed"]
    assert str(folder / "spool-1.sqlite") == told["file"]
    assert "no bad ones" in told["error"]
    await until(lambda: ordinary_now(vault), "an ordinary answer")
    with psycopg.connect(dsn, autocommit=True) as database:
        # moved one by one, each is dated by a statement of its own: their order may differ by its milliseconds
        assert {"msg_1", "msg_2"} == {one for one in event_ids(database) if not one.startswith("now_")}
        database.execute("drop trigger fail on public.agent_learnings")
    await drained(folder)


async def test_a_delivery_that_postgres_has_no_memory_for(
    vault: TestClient, dsn: str, folder: Path, switch: Switch
) -> None:
    """Its jsonb may be what takes the memory: the others go first, and it follows without."""
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute(
            "create function fail() returns trigger language plpgsql as $$ begin"
            " if new.event_id = 'heavy' and new.metadata ? 'raw_payload' then"
            " raise 'out of memory' using errcode = 'out_of_memory'; end if; return new; end $$;"
            "create trigger fail before insert on public.agent_learnings for each row execute function fail()"
        )
    switch.off()
    for name in ("heavy", "msg_1", "msg_2"):
        await spooled(vault, name)
    switch.on()
    await drained(folder)
    await until(lambda: ordinary_now(vault), "an ordinary answer")
    with psycopg.connect(dsn, autocommit=True) as database:
        assert ["heavy", "msg_1", "msg_2"] == sorted(one for one in event_ids(database) if not one.startswith("now_"))
        (heavy,) = [row for row in rows(database, "agent_learnings") if row["event_id"] == "heavy"]
    assert "raw_payload" not in heavy["metadata"]
    assert heavy["raw_body"]


async def test_a_spool_that_fails_does_not_keep_postgres_away(
    vault: TestClient, folder: Path, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once Postgres is back, deliveries go there, whatever ails the spool's own file."""

    def broken(*_: object, **__: object) -> None:
        raise SpoolError("input/output error")

    monkeypatch.setattr(SpoolFolder, "next_batch", broken)
    switch.off()
    await spooled(vault, "msg_1")
    switch.on()
    await until(lambda: ordinary_now(vault), "an ordinary answer")
    monkeypatch.undo()
    await drained(folder)


async def test_ready(vault: TestClient, switch: Switch) -> None:
    """It is ready for as long as the database or the spool accepts."""
    switch.off()
    await until(lambda: not vault.app[HEALTH].ready, "the loss to be seen")
    assert 200 == (await vault.get("/readyz")).status

    async def unready() -> bool:
        vault.app[SPOOLER].accepts = False  # its own probe finds in a moment that it does
        return (await vault.get("/readyz")).status == 503

    await until(unready)


@pytest.mark.parametrize("schema", ["none", "old"])
async def test_schema_too_old_while_it_runs(
    vault: TestClient, database: psycopg.Connection, folder: Path, schema: str
) -> None:
    """With a schema that this program cannot use the spool accepts, and nothing is moved before the schema fits."""
    assert (200, True) == await ordinary(vault, "msg_1")
    if schema == "none":
        database.execute("alter schema agent_vault rename to elsewhere")
    else:
        database.execute("update agent_vault.migrations set version = -version")
    await until(lambda: vault.app[HEALTH].too_old, "the change to be seen")
    await spooled(vault, "msg_2")
    assert 200 == (await vault.get("/readyz")).status
    assert ["msg_2"] == waiting(folder)
    if schema == "none":
        database.execute("alter schema elsewhere rename to agent_vault")
    else:
        database.execute("update agent_vault.migrations set version = %s where version = %s", [latest(), -latest()])
    await drained(folder)
    assert ["msg_1", "msg_2"] == event_ids(database)
    await until(lambda: ordinary_now(vault), "an ordinary answer")


async def test_new_ones_do_not_wait_for_old_ones(
    settings: VaultSettings, aiohttp_client: AiohttpClient, folder: Path, database: psycopg.Connection
) -> None:
    """While much is still to be moved a new delivery goes to Postgres at once, and over no further connection."""
    fill(folder, *(kept(f"old_{number}", b'"%s"' % (b"x" * 3000), age_s=60) for number in range(5000)))
    vault = await aiohttp_client(make_app(settings))
    vault.app[CIRCUIT].trip("as after an outage")
    await until(lambda: len(event_ids(database)) > 50, "the first to be moved")
    assert (200, True) == await ordinary(vault, "new")
    assert len(waiting(folder)) > 1000
    connections = database.execute("select count(*) from pg_stat_activity where application_name like 'agent-vault%'")
    assert connections.fetchone()[0] <= 4
    await drained(folder)
    assert 5001 == len(event_ids(database)) == len(rows(database, "jobs"))


async def test_many_requests_share_a_sync(
    vault: TestClient, folder: Path, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes while the disk syncs goes into the next batch together."""
    switch.off()
    await spooled(vault, "first")
    spool = vault.app[SPOOLER]
    batches: list[int] = []
    append, go_on = spool._folder.append, asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(deliveries: list[Any]) -> None:
        if not batches:
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        batches.append(len(deliveries))
        append(deliveries)

    monkeypatch.setattr(spool._folder, "append", slowly)
    waits = [asyncio.create_task(spooled(vault, "msg_0"))]
    await until(lambda: spool._queue.empty() and not waits[0].done())
    waits += [asyncio.create_task(spooled(vault, f"msg_{number}")) for number in range(1, 51)]
    await until(lambda: spool._queue.qsize() == 50, "fifty waiting deliveries")
    go_on.set()
    await asyncio.gather(*waits)
    assert [1, 50] == batches
    assert 52 == len(waiting(folder))


async def test_the_disk_does_not_hold_up_the_loop(
    vault: TestClient, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs delays those who wait for it alone, and they are asked to come again in the end."""
    monkeypatch.setattr(inbox, "DISK_S", 0.3)
    switch.off()
    await spooled(vault, "first")
    loop, go_on = asyncio.get_running_loop(), asyncio.Event()
    spool = vault.app[SPOOLER]

    def hang(_deliveries: list[Any]) -> None:
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()

    monkeypatch.setattr(spool._folder, "append", hang)
    answer = asyncio.create_task(deliver(vault, sample(), "msg_1"))
    for _ in range(20):
        assert 200 == (await vault.get("/livez")).status
    assert 503 == (await answer)[0]
    go_on.set()


async def test_behind_a_thousand(vault: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many wait for Postgres already, the next goes to the spool."""
    monkeypatch.setattr(vault.app[INBOX], "_room", Room(events=0))
    await spooled(vault, "msg_1")


async def test_a_neighbour_that_died_meanwhile(
    vault: TestClient, folder: Path, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running vault moves what another left in the same folder."""
    monkeypatch.setattr(drain, "IDLE_S", 0.05)
    assert (200, True) == await ordinary(vault, "msg_1")
    fill(folder, kept("msg_2"), number=2)
    await until(lambda: "msg_2" in event_ids(database), "the neighbour's delivery")
    await until(lambda: not (folder / "spool-2.sqlite").exists(), "the end of its file")


async def test_one_row(vault: TestClient, dsn: str, folder: Path, switch: Switch) -> None:
    """The row and the job of a spooled delivery are those of an ordinary one."""
    body = sample()
    switch.off()
    await spooled(vault, "msg_1", body)
    switch.on()
    await drained(folder)
    with psycopg.connect(dsn) as database:
        learning, job = stored(database)
    assert (body, GMAIL, "default", "queued") == (learning["raw_body"], job["type"], job["queue"], job["status"])
    assert json.loads(body) == learning["metadata"]["raw_payload"]
    assert learning["queued_at"] is not None
