"""The real gateway away or set up wrong: events wait unspent, and go on by themselves once it is right."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
from daemons import become, counts, daemon, idle
from programs import Program, until
from real_gateway import STEERED, RealGateway, unless_set
from real_gateway import real as real  # noqa: PLC0414 - a fixture
from webhooks import deliver, vault

pytestmark = [pytest.mark.gateway, unless_set(STEERED)]

EVENTS = 5  # in all of a test fewer than the 20 that the gateway keeps
LATEST_S = 20.0  # promised are 5, on a machine that does nothing else
ABSENT_S = 60.0


def said(program: Program, name: str) -> int:
    """How often it logged this event."""
    return sum(event["event"] == name for event in program.events)


async def cured(
    real: RealGateway, program: Program, database: psycopg.Connection, cure: Callable[[], Awaitable[None]], jobs: int
) -> float:
    """Cure the gateway, and return the seconds from when it would take a wake until all jobs are done."""
    resumed = said(program, "gateway_resumed")
    async with asyncio.TaskGroup() as tasks:
        curing = tasks.create_task(real.answers(400))
        await cure()
        would_take = await curing
    await become(database, program, done=jobs)
    took_s = time.monotonic() - would_take
    assert resumed + 1 == said(program, "gateway_resumed")
    return took_s


async def all_told(real: RealGateway, program: Program, database: psycopg.Connection) -> None:
    """Every event stands in a prompt, each job took one attempt, and nothing failed or was tried again."""
    jobs = database.execute("select id::text, attempts from public.jobs").fetchall()
    assert {1} == {attempts for _, attempts in jobs}
    assert not {"job_failed", "job_retried", "delivery_crashed"} & {event["event"] for event in program.events}
    await real.prompts.hold([job_id for job_id, _ in jobs])


async def test_hooks_switched_on_and_a_token_corrected(
    dsn: str, database: psycopg.Connection, tmp_path: Path, real: RealGateway
) -> None:
    """What came while openclaw.json had the hooks off, or another token, is delivered once it is corrected."""
    async with (
        vault(dsn, tmp_path) as serving,
        daemon(dsn, real.url, tmp_path, token=real.token, pacing="on") as program,
    ):
        await idle(program)

        async def misconfigure(fault: str, status: int, **changes: object) -> None:
            real.set_hooks(**changes)
            await real.answers(status)
            paused, before = said(program, "gateway_paused"), counts(database).total()
            await deliver(serving, EVENTS)
            assert "misconfigured" == (await program.event("gateway_paused", status=status))["reason"]
            # it is said again after ten seconds: by then the probes are as seldom as they become
            await until(lambda: said(program, "gateway_paused") >= paused + 2, "a longer pause")
            assert EVENTS == counts(database)["queued"]
            took_s = await cured(real, program, database, real.correct_hooks, before + EVENTS)
            print(f"{fault}: {EVENTS} events delivered {took_s:.1f} s after the gateway had read the correction")
            assert took_s < LATEST_S

        await misconfigure("hooks off", 404, enabled=False)
        await misconfigure("another token", 401, token="another-token-of-the-tests")
        await all_told(real, program, database)


@pytest.mark.timeout(420)
async def test_a_gateway_that_is_absent_for_a_minute(
    dsn: str, database: psycopg.Connection, tmp_path: Path, real: RealGateway
) -> None:
    """Five events come during a minute without a gateway; they are delivered once it is back."""
    async with (
        vault(dsn, tmp_path) as serving,
        daemon(dsn, real.url, tmp_path, token=real.token, pacing="on") as program,
    ):
        await idle(program)
        await real.stop()
        for _ in range(EVENTS):
            await deliver(serving)
            await asyncio.sleep(ABSENT_S / EVENTS)  # the length of the absence is the test
        paused = await program.event("gateway_paused")
        assert "unavailable" == paused["reason"]
        assert {"queued": EVENTS} == counts(database)
        took_s = await cured(real, program, database, real.start, EVENTS)
        print(f"absent for {ABSENT_S} s: {EVENTS} events delivered {took_s:.1f} s after the gateway took wakes again")
        assert took_s < LATEST_S
        await all_told(real, program, database)
