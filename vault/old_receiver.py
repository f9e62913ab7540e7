"""Whether the receiver of an earlier install still takes deliveries that nobody signed, for this database.

It was a Supabase Edge Function that checked no signature, so whoever knows its address can wake the agent. The one
proof is a delivery: an unsigned one that says what it is, looked for in the database.
"""

import asyncio
import re
import secrets
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
import psycopg

from notifier.checkup import Finding
from notifier.complaint import one_line
from sql.learnings import search_learnings
from sql.session import Session

WHAT: Final = "old receiver"
ANSWER_S: Final = 30.0
LOOKS: Final = 20
LOOK_EVERY_S: Final = 0.25
READ_BYTES: Final = 64 * 1024
_FUNCTION: Final = re.compile(r"/functions/v1/([\w-]+)")
_GONE: Final = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE}


def is_address(url: str) -> bool:
    """Tell whether a text is the address of a web server."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc


def new_marker() -> str:
    """Return the name of a trigger that nobody else has."""
    return f"AGENT_VAULT_DOCTOR_{secrets.token_hex(6).upper()}"


def delivery(marker: str) -> bytes:
    """Build an unsigned delivery that says what it is, and has its marker wherever receivers look for a name."""
    return msgspec.json.encode(
        {
            "type": "composio.trigger.message",
            "id": f"msg_{marker}",
            "trigger_name": marker,
            "connection_id": marker,
            "metadata": {"trigger_slug": marker, "connected_account_id": marker, "trigger_id": marker},
            "data": {"subject": marker, "message": "a test by agent-vault doctor: nothing is to be done"},
        }
    )


async def examine(url: str, session: Session) -> Finding:
    """Send one unsigned delivery to the address, and tell what the database shows of it.

    Raises psycopg.Error where nothing was sent.
    """
    marker = new_marker()
    await search_learnings(session, marker, limit=1)  # a database that cannot be searched proves nothing: send nothing
    status = await _post(url, delivery(marker))
    # an answer that refuses may come from what stands before a receiver, and an error after the row
    taken = status is not None and status < HTTPStatus.MULTIPLE_CHOICES
    try:
        learning_id = await _arrived(session, marker, looks=LOOKS if status != HTTPStatus.UNAUTHORIZED else 2)
    except psycopg.Error as error:
        answer = "no answer came" if status is None else f"it answered {status}"
        lost = f"{answer}, and then {marker} could not be looked for in this database ({one_line(error)})"
        return Finding(WHAT, f"unknown: {lost}; look for it there", ok=False)
    if learning_id:
        return Finding(WHAT, _open(url, marker, learning_id), ok=False)
    if taken:
        return Finding(
            WHAT,
            f"it answered {status} to an unsigned delivery, and no row with {marker} arrived in this database: "
            f"it may write to another one. {_remedy(url)}",
            ok=False,
        )
    return _closed(status, marker)


def _closed(status: int | None, marker: str) -> Finding:
    """Judge an answer that took nothing, and after which no row came; what proves nothing is said to be unknown."""
    if status in _GONE:
        return Finding(WHAT, f"nothing takes deliveries there ({status}), and no row arrived")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Finding(WHAT, f"an unsigned delivery is refused there ({status}), and no row arrived")
    answer = "no answer came" if status is None else f"it answered {status}"
    return Finding(WHAT, f"unknown: {answer}, and no row with {marker} arrived; check the address", ok=False)


def _open(url: str, marker: str, learning_id: str) -> str:
    return (
        "OPEN: it stored a delivery that nobody signed, so whoever knows the address can wake the agent. "
        f"{_remedy(url)} Written, and left there: learning {learning_id} of the trigger {marker}, "
        "and the job that the receiver made of it"
    )


def _remedy(url: str) -> str:
    found = _FUNCTION.search(url)
    command = f"supabase functions delete {found[1] if found else 'NAME'}"
    return (
        "Point the webhook subscription in Composio at this vault's address, then delete the Edge Function "
        f"(supabase: Edge Functions, or {command})."
    )


async def _post(url: str, body: bytes) -> int | None:
    """Return the status of the answer, or None where none came."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as client:
        try:
            headers = {"Content-Type": "application/json"}
            async with client.post(url, data=body, headers=headers, allow_redirects=False) as response:
                await response.content.read(READ_BYTES)
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


async def _arrived(session: Session, marker: str, *, looks: int) -> str | None:
    """Look for the row for some seconds: a receiver may answer before it stores. Raises psycopg.Error."""
    for look in range(looks):
        if look:
            await asyncio.sleep(LOOK_EVERY_S)
        for document in await search_learnings(session, marker, limit=1):
            row: dict[str, Any] = msgspec.json.decode(document)
            return str(row["id"])
    return None
