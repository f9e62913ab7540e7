"""A vault as a process, and signed deliveries to it as Composio sends them."""

import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from programs import Program, run

from vault.sender import Receipt, sample_messages, send

SECRET = "composio-secret-of-the-tests"
SLUG = "GMAIL_NEW_GMAIL_MESSAGE"


def vault(dsn: str, home: Path) -> AbstractAsyncContextManager[Program]:
    """Run the vault on a free port."""
    env = {"DATABASE_URL": dsn, "COMPOSIO_WEBHOOK_SECRET": SECRET, "VAULT_PORT": "0"}
    return run("vault", "serve", env=env, home=home)


async def deliver(serving: Program, count: int = 1) -> list[Receipt]:
    """Send signed deliveries as Composio does, each with its own id."""
    port = (await serving.event("vault_listening"))["port"]
    url = f"http://127.0.0.1:{port}/agent-vault/composio/webhook"
    return await send(url, SECRET, sample_messages(SLUG, count, now=time.time()))
