"""Proof that notifications arrive: a nonce that is sent from another connection must come back."""

import contextlib
import secrets
from collections.abc import Callable

import psycopg
from psycopg import sql

from sql.session import Statements, deadline

ECHO_S = 1.5


async def listen(connection: psycopg.AsyncConnection, channel: str) -> None:
    """Listen on a channel."""
    await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))


async def echoes(connection: psycopg.AsyncConnection, sender: Statements, heard: Callable[[str], None]) -> bool:
    """Tell whether this connection hears what another one notifies; whatever else it hears meanwhile goes to `heard`.

    A transaction-mode pooler takes LISTEN and forgets it. A nonce sent over the same connection would prove nothing:
    PgBouncer hands back what the very statement brought along.
    """
    nonce = f"agent_vault_nonce_{secrets.token_hex(8)}"
    with deadline(connection, ECHO_S):
        await listen(connection, nonce)
    await sender.fetch("select pg_notify(%s, '')", [nonce])
    async with contextlib.aclosing(connection.notifies(timeout=ECHO_S)) as notifications:
        async for notification in notifications:
            if notification.channel == nonce:
                return True
            heard(notification.channel)
    return False
