"""The signed sample that `agent-vault up` sends, and the reason where it does not arrive."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from sql.session import Session
from vault.children import Child
from vault.data_folder import SAMPLE_QUEUE, SAMPLE_USER
from vault.sender import Message, new_webhook_id, sample_body, send
from vault.timeline import Way, look

SLUG = "GMAIL_NEW_GMAIL_MESSAGE"
PATIENCE_S = 12.0
LATE_EVENT_S = 2.0
NO_TRIGGER = "no notification reached the daemon: the trigger agent_vault_inserted on public.jobs is missing"

Say = Callable[[str, str], None]


async def send_sample(url: str, secret: str, say: Say) -> UUID | None:
    """Send one delivery to the vault; return the id of its learning, or None when it was not accepted."""
    webhook_id = new_webhook_id()
    message = Message(webhook_id, sample_body(SLUG, webhook_id, time.time(), SAMPLE_USER))
    (receipt,) = await send(url, secret, [message])
    answer = receipt.answer or {}
    if not (answer.get("ok") and answer.get("job_queued")):
        say("up", f"check failed at stage accepted: the vault answered {receipt.status} {answer}")
        return None
    say("up", f"sent a signed sample, {webhook_id} ({SLUG})")
    return UUID(answer["learning_id"])


async def follow(dsn: str, learning_id: UUID, daemon: Child, news: Callable[[], Awaitable[None]]) -> Way:
    """Look until the delivery is done, its daemon has ended, or it has stood still for too long."""
    session = Session(dsn, name="agent-vault up")
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    try:
        while True:
            way = await look(session, learning_id, SAMPLE_QUEUE, list(daemon.said))
            if way.status == "done":  # only a notification can be missing now, and it came long ago if it came
                deadline = min(deadline, asyncio.get_running_loop().time() + LATE_EVENT_S)
            late = asyncio.get_running_loop().time() > deadline
            if way.missing() is None or late or daemon.ending is not None:
                return way
            await news()
    finally:
        await session.close()


def show(way: Way, daemon: Child, say: Say) -> bool:
    """Show the timeline; return whether the delivery arrived, and say where and why where it did not."""
    for line in way.lines():
        say("", line)
    stage = way.missing()
    if stage is not None:
        say("up", f"check failed at stage {stage}: {reason(stage, way, daemon)}")
    return stage is None


def reason(stage: str, way: Way, daemon: Child) -> str:
    """Say why a stage was not reached, as far as it can be known."""
    if daemon.ending is not None:
        return f"the daemon {daemon.ending}; {daemon.complaint()}"
    paused = [event for event in daemon.said if event.get("event") == "gateway_paused"]
    if stage in {"claimed", "delivered"} and paused:
        return str(paused[-1].get("remedy"))
    if stage == "notified":
        return NO_TRIGGER
    return way.last_error or f"nothing happened for {PATIENCE_S:.0f} s; {daemon.complaint()}"
