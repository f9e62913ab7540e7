"""Routes in a running daemon, and the proof that the agent has handled what it was woken for."""

import json
import uuid
from pathlib import Path

import psycopg
from daemons import become, daemon, insert, row
from gateways import FakeGateway, HoldsTheFirst
from programs import run, until

MAIL = "GMAIL_NEW_GMAIL_MESSAGE"
HANDLED = '[[routes]]\ntype = "*"\ncomplete_when = "handled"\n'


def events(database: psycopg.Connection, count: int = 1, kind: str = MAIL) -> list[uuid.UUID]:
    """Put events and their jobs in; return the jobs' ids."""
    ids = []
    for _ in range(count):
        (learning,) = database.execute(
            "insert into public.agent_learnings (learning, event_id, queue, queued_at, metadata)"
            " values ('x', %s, 'default', now(), %s) returning id",
            [f"msg_{uuid.uuid4()}", json.dumps({"trigger_name": kind})],
        ).fetchone()
        ids += insert(database, 1, payload={"trigger_name": kind}, type=kind, learning_id=learning)
    return ids


def configured(tmp_path: Path, text: str) -> Path:
    """A daemon's TOML file with these routes."""
    config = tmp_path / "daemon.toml"
    config.write_text(text)
    return config


async def acknowledge(dsn: str, home: Path, *ids: object) -> None:
    """Acknowledge as the agent does."""
    async with run("daemon", "events", "ack", *map(str, ids), env={"DATABASE_URL": dsn}, home=home) as command:
        assert 0 == await command.ended(), command.text


async def test_it_is_done_when_the_agent_has_acknowledged_it(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The gateway's 2xx is not the end: the agent's word is."""
    async with daemon(dsn, fake.url, tmp_path, config=configured(tmp_path, HANDLED)) as program:
        (job_id,) = events(database)
        await program.event("job_awaits_handling", job_id=str(job_id))
        assert ("processing", True) == (row(database, job_id)["status"], row(database, job_id)["awaits_handling"])
        await acknowledge(dsn, tmp_path, job_id)
    done = row(database, job_id)
    assert ("done", 1, "acknowledged") == (done["status"], done["attempts"], done["outcome"]["handled"])
    assert 1 == len(fake.wakes)


async def test_what_is_not_handled_is_sent_again_in_a_digest(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """When the agent's time is over the jobs go out together, an attempt spent, and fail when none is left."""
    settings = {"config": configured(tmp_path, HANDLED), "pulse_s": 0.2, "pacing": "on"}
    async with daemon(dsn, fake.url, tmp_path, **settings) as program:
        jobs = events(database, 3)
        for job_id in jobs:
            await program.event("job_awaits_handling", job_id=str(job_id))
        database.execute("update public.jobs set lease_until = now(), max_attempts = 2")
        for job_id in jobs:
            await program.event("job_awaits_handling", job_id=str(job_id), attempt=2)
        database.execute("update public.jobs set lease_until = now()")
        await become(database, program, failed=3)
    assert 4 == len(fake.wakes)
    assert fake.wakes[-1].startswith(f"3 new Composio triggers ({MAIL} ")
    assert ", 3 of them sent before and not handled yet." in fake.wakes[-1]
    assert all(str(job_id) in fake.wakes[-1] for job_id in jobs)
    failed = row(database, jobs[0])
    assert ("not handled", 0) == (failed["last_error"], failed["lapses"])


async def test_a_gateway_that_restarted_is_sent_it_again_first(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Its process is younger than the wakes that it took: they are gone with the one before it."""
    async with daemon(dsn, fake.url, tmp_path, config=configured(tmp_path, HANDLED), pacing="on") as program:
        jobs = events(database, 3)
        for job_id in jobs:
            await program.event("job_awaits_handling", job_id=str(job_id))
        fake.uptime_s = 0.0
        told = await program.event("gateway_restarted", sent_again=3)
        await until(lambda: len(fake.wakes) == 4, "the digest")
        await until(lambda: all(row(database, job_id)["awaits_handling"] for job_id in jobs))
    assert told["up_s"] < 60
    assert {1} == {row(database, job_id)["attempts"] for job_id in jobs}  # the sending that died is not counted
    assert {"processing"} == {row(database, job_id)["status"] for job_id in jobs}


async def test_a_gateway_that_was_away_is_asked_for_its_age(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The pause ends, and what the agent had pending goes out before what came meanwhile."""
    async with daemon(dsn, fake.url, tmp_path, config=configured(tmp_path, HANDLED)) as program:
        (first,) = events(database)
        await program.event("job_awaits_handling", job_id=str(first))
        fake.always = (503, "restarting")
        (second,) = events(database)
        await program.event("gateway_paused")
        fake.uptime_s, fake.always = 0.0, None
        await program.event("gateway_restarted", sent_again=1)
        await program.event("job_awaits_handling", job_id=str(second))
        await until(lambda: row(database, first)["awaits_handling"])
    texts = fake.wakes[1:]
    assert str(first) in texts[0]


async def test_a_daemon_that_died_leaves_it_to_the_agent(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The next run of its name neither sends it again nor counts it as a lapse, and watches over it."""
    config = configured(tmp_path, HANDLED)
    async with daemon(dsn, fake.url, tmp_path, config=config) as program:
        (job_id,) = events(database)
        await program.event("job_awaits_handling", job_id=str(job_id))
    async with daemon(dsn, fake.url, tmp_path, config=config) as program:
        await program.event("listener_up")
        (other,) = events(database)
        await program.event("job_awaits_handling", job_id=str(other))
        assert ("processing", 1, 0) == tuple(row(database, job_id)[key] for key in ("status", "attempts", "lapses"))
        fake.uptime_s = 0.0
        await program.event("gateway_restarted", sent_again=2)
        await acknowledge(dsn, tmp_path, job_id, other)
        await until(lambda: row(database, job_id)["status"] == "done")


async def test_each_type_goes_where_its_route_says(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """One session for this, a run for that, and nothing for what nobody wants."""
    routes = """
[[routes]]
type = "SLACK_*"
agentId = "work"
sessionKey = "hook:slack"
[[routes]]
type = "GITHUB_*"
action = "agent"
message = "look at {slug} {learning_id}"
[[routes]]
type = "NOISE"
action = "drop"
"""
    async with daemon(dsn, fake.url, tmp_path, config=configured(tmp_path, routes), pacing="on") as program:
        mail, slack, github, noise = [
            events(database, kind=kind)[0] for kind in (MAIL, "SLACK_RECEIVE_MESSAGE", "GITHUB_STAR", "NOISE")
        ]
        await become(database, program, done=4)
    bodies = {body.get("sessionKey"): body for body in fake.wake_bodies}
    assert {None, "hook:slack"} == bodies.keys()
    assert "work" == bodies["hook:slack"]["agentId"]
    assert str(slack) in bodies["hook:slack"]["text"]
    assert str(mail) in bodies[None]["text"]
    learning = row(database, github)["learning_id"]
    assert [f"look at GITHUB_STAR {learning}"] == [body["message"] for body in fake.agent_bodies]
    assert {str(github): "run-1"} == fake.runs
    ran = row(database, github)["outcome"]
    assert ("run-1", "ok") == (ran["run_id"], ran["completion"])
    dropped = row(database, noise)
    assert ({"reason": "dropped", "route": "NOISE"}, None) == (dropped["outcome"], dropped["delivered_at"])
    query = "select handled_how from public.agent_learnings where id = %s"
    assert ("dropped",) == database.execute(query, [dropped["learning_id"]]).fetchone()


async def test_a_run_that_ends_badly_is_not_done(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The gateway's 200 tells of an error: an attempt is spent, and the next waits until it is forgotten."""
    fake.completion = {"status": "error"}
    config = configured(tmp_path, '[[routes]]\ntype = "*"\naction = "agent"\n')
    async with daemon(dsn, fake.url, tmp_path, config=config) as program:
        (job_id,) = events(database)
        retried = await program.event("job_retried", job_id=str(job_id))
    assert 300 < retried["delay_s"]
    assert ("queued", 1) == (row(database, job_id)["status"], row(database, job_id)["attempts"])


async def test_a_long_run_holds_up_no_event_and_outlives_a_stop(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """Wakes go on beside it; a stop hangs up, the attempt uncounted, and the next run of the daemon joins it."""
    fake.held = HoldsTheFirst()
    config = configured(tmp_path, '[[routes]]\ntype = "RUN"\naction = "agent"\n')
    async with daemon(dsn, fake.url, tmp_path, config=config, concurrency=1) as program:
        (job_id,) = events(database, kind="RUN")
        await until(lambda: fake.agent_bodies)
        events(database)
        await become(database, program, processing=1, done=1)
        assert 0 == await program.stop()
    assert ("queued", 0) == (row(database, job_id)["status"], row(database, job_id)["attempts"])
    async with daemon(dsn, fake.url, tmp_path, config=config) as program:
        await program.event("job_delivered", job_id=str(job_id), attempt=1, run_id="run-1")
    assert {str(job_id): "run-1"} == fake.runs


async def test_a_run_that_is_begun_again_is_joined_too(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """What is sent again is a run of its own, and one run, however often a stop or a claim comes between."""
    fake.held = HoldsTheFirst()
    config = configured(tmp_path, '[[routes]]\ntype = "RUN"\naction = "agent"\n')
    (job_id,) = events(database, kind="RUN")
    database.execute("update public.jobs set delivered_at = now() - interval '1 h'")
    async with daemon(dsn, fake.url, tmp_path, config=config) as program:
        await until(lambda: fake.agent_bodies)
        assert 0 == await program.stop()
    async with daemon(dsn, fake.url, tmp_path, config=config) as program:
        await program.event("job_delivered", job_id=str(job_id), run_id="run-1")
    assert 2 == len(fake.agent_bodies)
    (key,) = fake.runs
    assert key.startswith(f"{job_id}/")


async def test_what_nobody_handled_is_said_when_it_fails(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """The dead letter is made in the database; the daemon tells of it, with the remedy."""
    (job_id,) = events(database)
    database.execute(
        "update public.jobs set status = 'processing', awaits_handling = true, locked_by = 'test/1', fenced = true,"
        " claims = 2, attempts = 5, delivered_at = now(), lease_until = now() + interval '2 s'"
    )
    async with daemon(dsn, fake.url, tmp_path, config=configured(tmp_path, HANDLED)) as program:
        told = await program.event("events_not_handled", job_ids=[str(job_id)])
    assert "install-skill" in told["remedy"]
    assert "failed" == row(database, job_id)["status"]
    assert [] == fake.wakes


async def test_a_gateway_without_an_age_is_not_taken_for_another(
    dsn: str, database: psycopg.Connection, fake: FakeGateway, tmp_path: Path
) -> None:
    """A pause for another reason than a refused connection is no sign of a restart."""
    fake.uptime_s = None
    async with daemon(dsn, fake.url, tmp_path, config=configured(tmp_path, HANDLED)) as program:
        (first,) = events(database)
        await program.event("job_awaits_handling", job_id=str(first))
        fake.always = (401, "Unauthorized")
        (second,) = events(database)
        await program.event("gateway_paused")
        fake.always = None
        await program.event("job_awaits_handling", job_id=str(second))
    assert 1 == sum(str(first) in text for text in fake.wakes)
