"""More than the real gateway can hold: every event still stands in a prompt that its model got."""

import asyncio
import time
from pathlib import Path

import psycopg
import pytest
from daemons import counts, daemon, idle
from programs import run, until
from real_gateway import STEERED, THROTTLED_S, RealGateway, unless_set
from real_gateway import real as real  # noqa: PLC0414 - a fixture
from webhooks import deliver, vault

pytestmark = [pytest.mark.gateway, unless_set(STEERED), pytest.mark.timeout(600)]

BURST = 60  # three times what the gateway keeps
STREAM = 90
HANDLED = '[[routes]]\ntype = "*"\ncomplete_when = "handled"\n'


def ids_of(database: psycopg.Connection) -> list[str]:
    """The ids of all jobs, the oldest first."""
    return [job_id for (job_id,) in database.execute("select id::text from public.jobs order by created_at").fetchall()]


async def test_a_burst_and_then_one_a_second(
    dsn: str, database: psycopg.Connection, tmp_path: Path, real: RealGateway
) -> None:
    """Sixty events at once, then one a second for a minute and a half: each job's id reaches the model."""
    async with (
        vault(dsn, tmp_path) as serving,
        daemon(dsn, real.url, tmp_path, token=real.token, pacing="on") as program,
    ):
        await idle(program)
        began = time.time()
        await deliver(serving, BURST)
        burst = ids_of(database)
        assert BURST == len(burst)
        for _ in range(STREAM):
            await deliver(serving)
            await asyncio.sleep(1)  # the pace is the test
        ended = time.time()
        told = await real.prompts.hold(ids_of(database))
        await until(lambda: counts(database) == {"done": BURST + STREAM}, "the last settlement")
    print(f"burst of {BURST}: the last reached the model after {max(told[one] for one in burst) - began:.0f} s")
    print(f"then one a second for {STREAM} s: the last reached it {max(told.values()) - ended:.0f} s after that")
    assert 0 == database.execute("select count(*) from public.jobs where attempts <> 1").fetchall()[0][0]


class Agent:
    """Acts as the agent, whose model here runs no tools: it acknowledges what its prompts name."""

    def __init__(self, real: RealGateway, database: psycopg.Connection, dsn: str, home: Path) -> None:
        """Take what it reads and where it acknowledges."""
        self._real, self._database, self._dsn, self._home = real, database, dsn, home
        self.acknowledged: set[str] = set()

    async def act(self) -> None:
        """Acknowledge what new prompts name, until cancelled."""
        while True:
            prompts = await until(self._real.prompts.read, "a prompt", THROTTLED_S)
            known = [one for one in ids_of(self._database) if one not in self.acknowledged]
            named = [one for one in known if any(one in prompt.text for prompt in prompts)]
            if named:
                await self._acknowledge(named)

    async def _acknowledge(self, ids: list[str]) -> None:
        async with run("daemon", "events", "ack", *ids, env={"DATABASE_URL": self._dsn}, home=self._home) as command:
            assert 0 == await command.ended(), command.text
        self.acknowledged |= set(ids)


async def test_a_restart_right_after_a_burst_loses_nothing_that_must_be_handled(
    dsn: str, database: psycopg.Connection, tmp_path: Path, real: RealGateway
) -> None:
    """The gateway's pending wakes die with it; what the agent has not acknowledged is sent again."""
    config = tmp_path / "daemon.toml"
    config.write_text(HANDLED)
    agent = Agent(real, database, dsn, tmp_path)
    async with (
        vault(dsn, tmp_path) as serving,
        daemon(dsn, real.url, tmp_path, token=real.token, config=config, pacing="on") as program,
        asyncio.TaskGroup() as tasks,
    ):
        await idle(program)
        acting = tasks.create_task(agent.act())
        began = time.time()
        await deliver(serving, BURST)
        sent = "select id from public.jobs where delivered_at is not null"
        await until(lambda: database.execute(sent).fetchall(), "the first wake")
        await real.stop()
        before = len(agent.acknowledged)
        await real.start()
        await until(lambda: len(agent.acknowledged) == BURST, "the last acknowledgement", 2 * THROTTLED_S)
        await until(lambda: counts(database) == {"done": BURST}, "all done")
        acting.cancel()
    assert set(ids_of(database)) == agent.acknowledged
    again = sum(event["sent_again"] for event in program.events if event["event"] == "gateway_restarted")
    print(
        f"burst of {BURST}, restart: {before} acknowledged before it, {again} sent again,"
        f" the last handled {time.time() - began:.0f} s after the burst began"
    )
