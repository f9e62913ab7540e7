"""The whole way of a delivery: Composio's signed POST, the vault, the database, the daemon, the gateway."""

import os
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from daemons import counts, daemon, row
from gateways import gateway
from programs import until
from real_gateway import ASKED, Prompts, unless_set
from webhooks import SLUG, deliver, vault


def job_of(database: psycopg.Connection, learning_id: str) -> dict[str, Any]:
    """The one job of a learning."""
    (found,) = database.execute("select id from public.jobs where learning_id = %s", [learning_id]).fetchall()
    return row(database, found[0])


def woken(learning_id: str, job_id: UUID) -> str:
    """The text by which the agent is told of an event."""
    return (
        f"New Composio trigger ({SLUG}). Check latest composio_trigger learnings. Learning {learning_id}, job {job_id}."
    )


async def test_a_signed_delivery_reaches_the_agent(dsn: str, database: psycopg.Connection, tmp_path: Path) -> None:
    """200 from the vault, the wake at the gateway, and a job that is done."""
    async with (
        gateway() as fake,
        vault(dsn, tmp_path) as serving,
        daemon(dsn, fake.url, tmp_path, poll_s=0, pulse_s=300) as program,
    ):
        await program.event("listener_up")
        (receipt,) = await deliver(serving)
        delivered = await program.event("job_delivered")
    assert (200, delivered["learning_id"]) == (receipt.status, receipt.answer["learning_id"])
    done = job_of(database, delivered["learning_id"])
    assert ("done", SLUG, delivered["job_id"]) == (done["status"], done["type"], str(done["id"]))
    assert [woken(delivered["learning_id"], done["id"])] == fake.posts


async def test_events_wait_for_a_daemon_that_is_stopped(dsn: str, database: psycopg.Connection, tmp_path: Path) -> None:
    """Answered with 200, both rows are there, queued, and every one is delivered once the daemon starts."""
    async with vault(dsn, tmp_path) as serving:
        receipts = await deliver(serving, 5)
    assert [200] * 5 == [receipt.status for receipt in receipts]
    expected = set()
    for receipt in receipts:
        learning_id = receipt.answer["learning_id"]
        job = job_of(database, learning_id)
        assert ("queued", 0, learning_id) == (job["status"], job["claims"], job["payload"]["learning_id"])
        (learning,) = database.execute(
            "select event_id from public.agent_learnings where id = %s", [learning_id]
        ).fetchall()
        assert (receipt.webhook_id,) == learning
        expected.add(woken(learning_id, job["id"]))
    async with gateway() as fake, daemon(dsn, fake.url, tmp_path):
        await until(lambda: counts(database) == {"done": 5})
    assert expected == set(fake.posts)


@pytest.mark.gateway
@unless_set(ASKED)
async def test_the_real_gateways_model_is_told(dsn: str, database: psycopg.Connection, tmp_path: Path) -> None:
    """A 200 of the gateway is not arrival: the event's text stands in a prompt that its model got."""
    url, token, log = (os.environ[name] for name in ASKED)
    prompts = Prompts(Path(log))
    async with vault(dsn, tmp_path) as serving, daemon(dsn, url, tmp_path, token=token) as program:
        (receipt,) = await deliver(serving)
        delivered = await program.event("job_delivered")
    await prompts.hold([woken(receipt.answer["learning_id"], UUID(delivered["job_id"]))])
    assert "done" == job_of(database, receipt.answer["learning_id"])["status"]
